"""A night at work: finder, ingester and backfill at the same time, while somebody hurts them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import Counter
from typing import Any

import psycopg2

from ingest.statuses import Status
from tests.system.product import Command, Product

#: "Resumes in under 10 s": what the issue promises, and what a test on a busy machine allows.
RESUMES_S = 10.0
ALLOWED_S = 25.0


class Night:
    """The commands of one product, and what was given to them.

    Parameters
    ----------
    product
        Whose commands they are.
    old
        So many files were in storage before, and are recorded by backfill.
    """

    def __init__(self, product: Product, old: int = 0) -> None:
        self.product = product
        product.add_plugins()
        self.sent: dict[str, bytes] = {}
        self.old = {f"before/{n:05d}.fits": b"%d" % n for n in range(old)}
        for name, content in self.old.items():
            path = product.storage / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        self.list = product.root / "list"
        self._yaml = (
            product.finder_yaml(),
            product.ingester_yaml(
                "observatory_plugins.Counting",
                {"list": str(self.list), "pause": 0.01},
                num_threads=2,
                batch_size=10,
            ),
        )
        self.backfill: Command | None = None
        self.start()

    def start(self) -> None:
        """Start the two that never end."""
        self.finder = self.product.start("runfinder", self._yaml[0])
        self.ingester = self.product.start("runingester", self._yaml[1])

    @property
    def commands(self) -> list[Command]:
        """Those that were started."""
        return [c for c in (self.finder, self.ingester, self.backfill) if c is not None]

    def start_backfill(self) -> None:
        """Start to record what was there before."""
        product = self.product
        config = {
            "database": product.database("file_events"),
            "backfill": {"storage": str(product.storage), "sources": ["before"]},
        }
        path = product.write("backfill.yaml", config)
        self.backfill = product.start("backfill", path, "--workers", "1")
        product.wait(lambda: self.recorded() > 0, "backfill is at work")

    def land(self, count: int) -> None:
        """Let files arrive."""
        for _ in range(count):
            name = f"night/{len(self.sent):05d}.fits"
            self.sent[name] = os.urandom(100)
            self.product.land(name, self.sent[name])

    def at_work(self) -> None:
        """Let files arrive, and come back in the middle of the work on them."""
        stored, counted = self.stored(), self.counted().total()
        self.land(150)
        self.product.wait(lambda: self.stored() > stored, "the finder is at work")
        self.product.wait(lambda: self.counted().total() > counted, "the ingester is at work")

    def stored(self) -> int:
        """Count the files in storage, without a database."""
        with contextlib.suppress(FileNotFoundError):
            return sum(1 for _ in os.scandir(self.product.storage / "night"))
        return 0

    def counted(self) -> Counter[str]:
        """Count how often the target was given each file."""
        return Counter(self.list.read_text().split()) if self.list.exists() else Counter()

    def recorded(self) -> int:
        """Count what backfill has done; 0 while the database does not answer."""
        sql = "SELECT count(*) FROM ingest_ingestion WHERE status = 'BACKFILL'"
        with patiently():
            return int(self.product.value(sql))
        return 0

    def resumes(self, since: float) -> float:
        """Wait until everybody makes progress again; give the longest time that one took."""
        self.land(30)
        stored, counted, recorded = self.stored(), self.counted().total(), self.recorded()
        last = {
            "the finder": lambda: self.stored() > stored,
            "the ingester": lambda: self.counted().total() > counted,
        }
        if self.backfill is not None and self.backfill.running:
            last["backfill"] = lambda: self.recorded() > recorded or recorded == len(self.old)
        took = 0.0
        while last:
            for who in [who for who, done in last.items() if done()]:
                del last[who]
                took = time.monotonic() - since
            assert time.monotonic() - since < 90, f"{', '.join(last)}: no progress\n{self}"
            time.sleep(0.02)
        return took

    def all_said_why(self) -> None:
        """Check that each command has said that its database was away."""
        for command in self.commands:
            told = command.says("the database cannot") or command.says("the database has not")
            assert told, f"it does not say why: {command}"

    def ends_well(self, unknown: int = 0) -> Counter[str]:
        """Wait for the end of all work, stop everything, and check what is left of it.

        Parameters
        ----------
        unknown
            So many files may have an outcome that nobody saw.
        """
        product = self.product
        for command in self.commands:
            assert command.running or command is self.backfill, f"it ended: {command}"
        if self.backfill is not None:
            assert " 0 failed" in self.backfill.ends().succeeded()
        product.wait(self._is_done, f"everything is taken in and ingested; {len(self.sent)} sent")
        for command in (self.finder, self.ingester):
            command.stops()
        product.check_at_rest()
        statuses = product.statuses()
        assert statuses.pop(Status.BACKFILL, 0) == len(self.old)
        assert set(statuses) <= {Status.SUCCESS, Status.UNKNOWN}, statuses
        assert statuses[Status.UNKNOWN] <= unknown, f"{statuses}\n{self}"
        assert product.files_in(product.storage) == {**self.old, **self.sent}
        assert product.files_in(product.buffer) == {}
        assert not list((product.storage / ".incoming").glob("*")), "copies are left over"
        counts = self.counted()
        assert set(counts.values()) <= {1}, "a file was ingested twice"
        assert statuses[Status.SUCCESS] <= len(counts) <= statuses.total()
        return statuses

    def _is_done(self) -> bool:
        with patiently():
            statuses = self.product.statuses()
            done = statuses[Status.SUCCESS] + statuses[Status.UNKNOWN] == len(self.sent)
            held = "SELECT count(*) FROM ingest_ingestion WHERE claim IS NOT NULL"
            return done and not self.product.value(held)
        return False

    def __str__(self) -> str:
        return "\n".join(str(command) for command in self.commands)


@contextlib.contextmanager
def patiently() -> Any:
    """Pass over a database that does not answer just now."""
    with contextlib.suppress(psycopg2.Error, sqlite3.Error):
        yield
