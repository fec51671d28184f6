"""A command's processes by what they do, and how long the work stood still while they were hurt."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from ingest.statuses import Status
from tests.system import process_table
from tests.system.process_table import Identity
from tests.system.product import OPEN, Command, Product
from tests.system.test_crashes import counted

#: What nothing may stand still for while files wait, in seconds.
FROZEN_S = 60.0

_OPEN = ", ".join(f"'{status}'" for status in OPEN)


def pids_of(command: Command, role: str) -> list[int]:
    """List the processes of a command that have a role.

    Parameters
    ----------
    command
        The command.
    role
        sentinel, pusher, monitor, worker; busy: a worker that has a plugin loaded; host: a plugin
        host; finder: a worker.
    """
    below = [pid for pid, _ in process_table.descendants(command.process.pid)]
    hosts = [pid for pid in below if "ingest.host_child" in process_table.command_line(pid)]
    if role == "host":
        return hosts
    if role == "busy":
        parents = {found[1] for pid in hosts if (found := process_table.read(pid)) is not None}
        return [pid for pid in below if pid in parents]
    return [pid for pid in below if process_table.name_of(pid).startswith(role)]


def victims(
    wait: Callable[[Callable[[], object], str], None], command: Command, role: str
) -> list[int]:
    """List the processes of a role as soon as there are some, waiting in somebody's way."""
    found: list[int] = []

    def look() -> list[int]:
        found[:] = pids_of(command, role)
        return found

    wait(look, f"there is a {role}")
    return found


class Watch:
    """Looks at a run of an ingester while it is hurt.

    Parameters
    ----------
    product
        The product.
    files
        How many files there are.
    listed
        What the counting plugin was given.
    """

    def __init__(self, product: Product, files: int, listed: Path) -> None:
        self.product, self.files, self.listed = product, files, listed
        self.frozen_s = FROZEN_S
        self.longest_s = 0.0
        self.final = 0
        self._moved_at = time.monotonic()

    def look(self) -> int:
        """Count what is done for good; note for how long it has not become more."""
        final = int(
            self.product.value(
                f"SELECT count(*) FROM ingest_ingestion WHERE status NOT IN ({_OPEN})"
            )
        )
        now = time.monotonic()
        if self.final < self.files:
            self.longest_s = max(self.longest_s, now - self._moved_at)
        if final != self.final:
            self.final, self._moved_at = final, now
        assert now - self._moved_at < self.frozen_s or self.final >= self.files, (
            f"{final} of {self.files} files, and nothing moves\n{self.product.report()}"
        )
        return final

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something, and go on looking; it fails when nothing moves for too long."""

        def check() -> object:
            self.look()
            return condition()

        self.product.wait(check, what, 600)

    def until_done(self, count: int) -> None:
        """Wait until so many files are done for good."""
        self.until(lambda: self.final >= count, f"{count} files are final")

    def victims(self, command: Command, role: str) -> list[int]:
        """Wait until there is a process of a role, for it may just be started again."""
        return victims(self.until, command, role)

    def check(self, *, tells: bool, unknown: int) -> None:
        """Check what has become of every file.

        Parameters
        ----------
        tells
            Whether the plugin can tell what it has, so that nothing stays unknown.
        unknown
            How many may be otherwise.
        """
        product, statuses = self.product, self.product.statuses()
        assert sum(statuses.values()) == self.files, statuses
        assert set(statuses) <= {Status.SUCCESS, Status.UNKNOWN}, statuses
        assert statuses[Status.UNKNOWN] <= (0 if tells else unknown), statuses
        counts = counted(self.listed)
        assert max(counts.values()) == 1, "a file was ingested twice"
        if tells:
            assert len(counts) == self.files
        assert product.left_over() == []
        product.check_at_rest()


def start(
    product: Product, files: int, *, tells: bool, first: int = 0, **section: object
) -> tuple[Path, Watch]:
    """Take files in; give the ingester's YAML file and something to watch it with."""
    product.add_plugins()
    for number in range(first, first + files):
        product.land(f"night/{number:04d}.fits")
    product.run("runfinder", product.finder_yaml(), "--once", within_s=300).succeeded()
    listed = product.root / "list"
    yaml = product.ingester_yaml(
        "observatory_plugins.CountingAndTelling" if tells else "observatory_plugins.Counting",
        {"list": str(listed), "pause": 0.01},
        **{
            "num_threads": 2,
            "batch_size": 10,
            **({"retry": {"backoff": 0.2}} if tells else {}),
            **section,
        },
    )
    return yaml, Watch(product, files, listed)


def kill(pids: list[int], signum: int = signal.SIGKILL) -> list[Identity]:
    """Send a signal to processes that live, at once; give who they were."""
    who = [(pid, found[2]) for pid in pids if (found := process_table.read(pid)) is not None]
    for pid, _ in who:
        os.kill(pid, signum)
    return who


def age_claims(product: Product) -> None:
    """Have all claims lapse now instead of in half a minute; whoever held them must be dead."""
    product.rows(
        "UPDATE ingest_ingestion SET lease_until = %s WHERE claim IS NOT NULL",
        "2020-01-01 00:00:00+00:00" if product.is_postgresql else "2020-01-01 00:00:00",
    )
