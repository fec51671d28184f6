"""A finder that goes by rsync's logs, killed at every step and started again."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection

from buffer import batches, steps
from buffer.finder import Finder
from buffer.hashing import checksums
from buffer.models import File, Refusal, RefusalReason, Storage
from tests.buffer.conftest import Ground, cycle
from tests.faults.dying import in_child, kill_at
from tests.tally import Tally

#: What each log names, by its name below the source; `%0` and `%1` are yesterday and today. Twins
#: have the same name and content, and the last log names files of another one again.
LOGS = {
    "%0/rsync_1.log": ["d/a.fits", "d/b c.fits", "e/a.fits"],
    "%1/rsync_1.log": ["d/late.fits", "d/1.fits", "../outside", "pipe"],
    "%1/sub/rsync_2.log": ["d/2.fits", "d/a.fits", "d/3.fits"],
}
GROWN = {"%0/rsync_1.log": ["f/new.fits"], "%1/sub/rsync_2.log": ["f/newer.fits", "f/later.fits"]}
#: Not there when the first finder looks.
LATE = ["d/late.fits", "f/later.fits"]
TWINS = {"d/a.fits", "e/a.fits"}
NEVER = {"../outside": RefusalReason.BAD_NAME, "pipe": RefusalReason.NOT_REGULAR}


class Logs:
    """Logs and the files that they name.

    Parameters
    ----------
    place
        A directory for both.
    """

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.place, self.ground = place, Ground(place)
        now = datetime.now(UTC)
        self._days = [f"{now - timedelta(days=1):%Y%m%d}", f"{now:%Y%m%d}"]
        self.named: dict[Path, list[str]] = {}
        self.there: dict[str, os.stat_result] = {}
        for names in (*LOGS.values(), *GROWN.values()):
            for name in names:
                if name not in LATE and name not in NEVER and name not in self.there:
                    self.store(name)
        os.mkfifo(self.ground.root / "pipe")
        for log, names in LOGS.items():
            self.write(log, names)

    def write(self, log: str, names: list[str]) -> None:
        """Write lines to the end of a log, as rsync does."""
        path = self.ground.source / log.replace("%0", self._days[0]).replace("%1", self._days[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(f"2026/11/23 10:00:00 [42] >f+++++++++ {name}\n" for name in names)
        before = time.time() - 10
        os.utime(path, (before, before))
        self.named.setdefault(path, []).extend(names)

    def grow(self) -> None:
        """Let rsync go on."""
        for log, names in GROWN.items():
            self.write(log, names)

    def store(self, name: str) -> None:
        """Put a file into storage."""
        path = self.ground.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {path.name}")
        self.there[name] = path.stat()

    def finder(self) -> Finder:
        """Start a finder; with a day to spare, since midnight may pass."""
        return self.ground.finder(
            actions={"standard": "Noop", "alternative": "Delete"},
            search={"method": "parse_rsync_logs", "delay": 1, "past_days": 2},
        )

    def run(self, prepare: Callable[[], object] = lambda: None) -> int:
        """Run a finder to the end of what it can do, in a process that was prepared."""

        def work() -> None:
            batches.FILES = 2  # type: ignore[misc]
            prepare()
            finder = self.finder()
            while not (found := cycle(finder)).quiet:
                assert not found.blocked, found.blocked

        return in_child(work)

    def check(self) -> None:
        """No log is done with a file unaccounted for; nothing in storage was touched."""
        recorded = {file.path for file in File.objects.all()}
        lasting = set(
            Refusal.objects.filter(
                reason__in=[*NEVER.values(), RefusalReason.DUPLICATE]
            ).values_list("path", flat=True)
        )
        for path, names in self.named.items():
            done = path.with_name(f"{path.name}.done")
            offset = int(done.read_text()) if done.exists() else 0
            lines = path.read_bytes()[:offset].count(b"\n")
            assert path.read_bytes()[:offset].endswith(b"\n") or not offset
            log = path.relative_to(self.ground.source)
            for number, name in enumerate(names[:lines], start=1):
                known = {name, f"{log}:{number}"} & (recorded | lasting)
                assert known, f"{path.name} is done, and {name} is not accounted for"
        for name, before in self.there.items():
            now = (self.ground.root / name).stat()
            same = [
                (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_mode)
                for state in (before, now)
            ]
            assert same[0] == same[1], f"{name} was touched"
            assert (self.ground.root / name).read_text() == f"content of {Path(name).name}"

    def check_end(self) -> None:
        """All that is there is recorded once, what is not is waited for, all else is done."""
        self.check()
        files = Counter(file.path for file in File.objects.stored())
        expected = set(self.there) & {name for names in self.named.values() for name in names}
        twins = TWINS & set(files)
        assert len(twins) == 1, "one of the twins is recorded, the other is its duplicate"
        assert files == Counter((expected - TWINS) | twins)
        for file in File.objects.all():
            with open(self.ground.root / file.path, "rb") as content:
                assert checksums(content.fileno(), ["blake3"])["blake3"] == file.checksum
        for path, names in self.named.items():
            done = path.with_name(f"{path.name}.done")
            waits = any(name in LATE and name not in self.there for name in names)
            is_done = done.exists() and int(done.read_text()) == path.stat().st_size
            assert is_done != waits, f"{path.name}: done {is_done}, waiting {waits}"
        missing = [name for name in LATE if name not in self.there and name in self._all_named()]
        refused = Counter(Refusal.objects.unresolved().values_list("reason", flat=True))
        assert refused[RefusalReason.VANISHED] == len(missing)
        assert refused[RefusalReason.BAD_NAME] == refused[RefusalReason.NOT_REGULAR] == 1
        left = list(self.ground.source.rglob("*.tmp"))
        assert not left, "a marker is left half written"

    def _all_named(self) -> set[str]:
        return {name for names in self.named.values() for name in names}


def clear() -> None:
    Refusal.objects.all().delete()
    File.objects.all().delete()
    Storage.objects.all().delete()


def sweep(tmp_path: Path, numbers: list[int], *, later: bool) -> int:
    """Kill a finder at steps of its first run, or of that over logs that grew; run another."""
    killed = 0
    for number in numbers:
        logs = Logs(tmp_path / f"{number}")

        if later:
            assert logs.run() == 0
            logs.check_end()
            logs.grow()
            logs.store(LATE[0])
        status = logs.run(kill_at(number))
        killed += status < 0
        assert status <= 0
        try:
            logs.check()
            assert logs.run() == 0
            logs.check_end()
            logs.grow()
            for name in LATE:
                logs.store(name)
            assert logs.run() == 0
            logs.check_end()
            logs.store(LATE[0])
            before = File.objects.count()
            assert logs.run() == 0, "there is nothing to do any more"
            assert File.objects.count() == before
        except AssertionError as error:
            raise AssertionError(f"killed at step {number}: {error}") from error
        clear()
    return killed


def names_of_steps(tmp_path: Path) -> list[str]:
    """Name the steps of a run that nobody disturbs."""
    logs = Logs(tmp_path / "undisturbed")
    written = tmp_path / "steps"

    def write_down() -> None:
        file = written.open("w", buffering=1)
        steps.reached = lambda name: print(name, file=file)  # type: ignore[assignment]

    assert logs.run(write_down) == 0
    logs.check_end()
    clear()
    return written.read_text().splitlines()


def test_killed_at_each_kind_of_step(transactional_db: None, tmp_path: Path, tally: Tally) -> None:
    names = names_of_steps(tmp_path)
    some = {name: n for n, name in enumerate(names, 1) if names[:n].count(name) <= 2}
    killed = sweep(tmp_path, sorted(some.values()), later=False)
    assert killed == len(some)
    tally(f"finder by rsync's logs killed at a step, {connection.vendor}", killed)


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("later", [False, True], ids=["new logs", "logs that grew"])
def test_killed_at_every_step(
    transactional_db: None, tmp_path: Path, later: bool, tally: Tally
) -> None:
    numbers = range(1, len(names_of_steps(tmp_path)) + 1)
    killed = sweep(tmp_path, list(numbers), later=later)
    assert killed == len(numbers) or (later and killed > 10)
    tally(f"finder by rsync's logs killed at a step, {connection.vendor}", killed)
