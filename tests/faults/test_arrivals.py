"""Arrivals that change while they are taken in, and destinations that are taken."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from buffer import steps
from buffer.hashing import checksums
from buffer.models import File, Refusal, RefusalReason
from tests.buffer.conftest import Ground, cycle, ground, other_file_system, refuse_links
from tests.tally import Tally

__all__ = ["ground", "other_file_system", "refuse_links"]

pytestmark = pytest.mark.django_db

OLD, NEW = b"as it was sent", b"as it is now"


def vanish(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """Put another file into its place, as rsync does."""
    draft = path.with_name(".draft.part")
    draft.write_bytes(NEW)
    draft.rename(path)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(NEW)


def truncate(path: Path) -> None:
    os.truncate(path, 3)


def write_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(OLD.upper())


def write_by_map(path: Path) -> None:
    """Change bytes through a mapping; the kernel sets mtime when it is synced."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:4] = b"MMAP"
        mapped.flush()


CHANGES = [vanish, replace, grow, truncate, write_in_place, write_by_map]
WAYS = ["link", "rename", "copy"]


@pytest.fixture
def way(
    request: pytest.FixtureRequest,
    ground: Ground,
    other_file_system: Path,
    refuse_links: Callable[[], None],
) -> str:
    """Let files get their place in one of the ways."""
    chosen = str(request.param)
    if chosen == "copy":
        ground.source = other_file_system / "in"
        ground.source.mkdir()
        ground.options["source"] = str(ground.source)
    if chosen == "rename":
        refuse_links()
    return chosen


def contents(*roots: Path) -> set[bytes]:
    return {path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}


class Steps:
    """Does something at the n-th step of the protocol."""

    def __init__(self, number: int, deed: Callable[[], object]) -> None:
        self.seen: list[str] = []
        self._number, self._deed = number, deed

    def reached(self, step: str) -> None:
        self.seen.append(step)
        if len(self.seen) == self._number:
            self._deed()


def settle(ground: Ground) -> None:
    """Run cycles until nothing is left to do, waiting out what was refused for now."""
    finder = ground.finder()
    for _ in range(8):
        if cycle(finder).quiet:
            finder._refusals._steady = lambda: time.monotonic() + 1000
            if cycle(finder).quiet:
                return
    raise AssertionError("it does not come to rest")


def check(ground: Ground, change: Callable[[Path], None], before: set[bytes], step: str) -> None:
    """I1 to I3: what lies in storage is what is recorded, and nothing whole has gone.

    A file that was linked has its name in the buffer for a moment after the last look at it. Who
    opens that and writes, in those milliseconds, writes to the stored file: it is told.
    """
    ground.check()
    if step in ("durable", "stored committed") and Refusal.objects.filter(
        reason=RefusalReason.CONFLICT
    ):
        return
    for file in File.objects.all():
        with (ground.root / file.path).open("rb") as stored:
            found = checksums(stored.fileno(), [file.checksum_algorithm])
        assert found[file.checksum_algorithm] == file.checksum, "a stale checksum"
        assert (ground.root / file.path).stat().st_size == file.size_bytes
    everywhere = contents(ground.source, ground.root)
    if change is replace:
        assert NEW in everywhere, "the newcomer is lost"
    elif change is vanish:
        assert OLD in everywhere or Refusal.objects.filter(reason=RefusalReason.VANISHED).exists()
    else:
        # What its own writer made of it, or what it was when it was taken in.
        assert everywhere & before, "lost"


def pairs() -> Iterator[ParameterSet]:
    """Every change in every way; the tests of each day take one way for each change."""
    for number, change in enumerate(CHANGES):
        for at, way in enumerate(WAYS):
            marks = [] if at == number % len(WAYS) else [pytest.mark.full]
            yield pytest.param(change, way, marks=marks, id=f"{change.__name__}-{way}")


@pytest.mark.parametrize(("change", "way"), list(pairs()), indirect=["way"])
@pytest.mark.usefixtures("way")
def test_between_every_two_steps(
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    tally: Tally,
    change: Callable[[Path], None],
) -> None:
    # Made by the recovery else, before the arrival was seen.
    (ground.root / ".incoming").mkdir()
    injected, number = 0, 0
    while True:
        number += 1
        path = ground.put(f"d{number}/a{number}", OLD)
        before = {OLD}

        def deed(path: Path = path, before: set[bytes] = before) -> None:
            try:
                change(path)
            except FileNotFoundError:
                return  # it was taken in: there is nothing left to change
            if path.exists():
                before.add(path.read_bytes())

        points = Steps(number, deed)
        monkeypatch.setattr(steps, "reached", points.reached)
        settle_once = ground.finder()
        cycle(settle_once)
        monkeypatch.setattr(steps, "reached", lambda _: None)
        if len(points.seen) < number:
            break
        injected += 1
        settle(ground)
        check(ground, change, before, points.seen[number - 1])
        for left in [*ground.source.rglob("a*"), *ground.root.rglob("a*")]:
            left.unlink()
        File.objects.all().delete()
        Refusal.objects.all().delete()
    assert injected > 5
    tally(f"source: {change.__name__.replace('_', ' ')}, between two steps", injected)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_directory(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def make_other(path: Path) -> None:
    path.write_bytes(NEW)


def make_empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("make", [make_fifo, make_directory, make_link, make_other, make_empty])
def test_destination_taken(ground: Ground, tally: Tally, make: Callable[[Path], None]) -> None:
    """Nothing in storage is replaced, the arrival stays, and the finder never blocks."""
    path = ground.put("d/a", OLD)
    there = ground.root / "d/a"
    there.parent.mkdir()
    make(there)
    before = there.lstat()
    finder = ground.finder()
    assert cycle(finder).done == 1
    assert cycle(finder).quiet
    assert ground.refusal().reason in (RefusalReason.CONFLICT, RefusalReason.EIO)
    after = there.lstat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert path.read_bytes() == OLD
    assert not File.objects.exists()
    # The person moves it away, and changes nothing else.
    there.rmdir() if make is make_directory else there.unlink()
    Refusal.objects.all().delete()
    finder = ground.finder()
    cycle(finder)
    assert ground.stored("d/a") == OLD
    ground.check()
    tally("destination taken", 1)


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.usefixtures("way")
def test_destination_has_the_same_bytes(ground: Ground, tally: Tally) -> None:
    """An untracked file of the same bytes is taken for the arrival, and stays what it is."""
    path = ground.put("a", OLD)
    (ground.root / "a").write_bytes(OLD)
    inode = (ground.root / "a").stat().st_ino
    settle(ground)
    assert not path.exists()
    assert (ground.root / "a").stat().st_ino == inode
    ground.check()
    tally("destination taken", 1)


def test_writers(ground: Ground, tally: Tally) -> None:
    """A stalled writer is waited for, however old its last byte; so is one that comes late."""
    path = ground.put("slow", OLD)
    finder = ground.finder()
    with path.open("ab") as writer:
        for _ in range(5):
            cycle(finder)
            assert path.exists() and not (ground.root / "slow").exists()
        writer.write(NEW)
    settle(ground)
    assert ground.stored("slow") == OLD + NEW
    ground.check()
    tally("stalled writer", 5)


def test_a_writer_opens_between_lease_and_link(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    path = ground.put("a", OLD)
    writers = []

    def reached(step: str) -> None:
        if step == "intent committed" and not writers:
            writers.append(path.open("ab"))

    monkeypatch.setattr(steps, "reached", reached)
    finder = ground.finder()
    cycle(finder)
    assert path.exists() and not (ground.root / "a").exists()
    assert not File.objects.exists()
    writers[0].write(NEW)
    writers[0].close()
    settle(ground)
    assert ground.stored("a") == OLD + NEW
    ground.check()
    tally("writer opens between lease and link", 1)
