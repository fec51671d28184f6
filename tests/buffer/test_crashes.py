"""SIGKILL at every step of the take-in protocol, for each way of placing a file."""

from __future__ import annotations

import errno
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from buffer import steps
from buffer.hashing import checksums
from buffer.models import File, Refusal, RefusalReason, Storage
from tests.buffer.conftest import Ground, cycle

#: Name and content below the buffer: new files, twins, a duplicate and a conflict of what is
#: stored, a duplicate whose stored copy is damaged and one whose stored copy is missing.
ARRIVALS = {
    "d/new1": b"one",
    "d/e/new2": b"two" * 1000,
    "top": b"",
    "d/twin": b"twin",
    "f/twin": b"twin",
    "old/same": b"same",
    "old/conflict": b"newer",
    "old/damaged": b"whole",
    "old/missing": b"missing",
}
STORED = {
    "old/same": b"same",
    "old/conflict": b"older",
    "old/damaged": b"whole",
    "old/missing": b"missing",
}


def set_up(ground: Ground) -> None:
    for name, content in STORED.items():
        ground.put(name, content)
    assert cycle(ground.finder()).done == len(STORED)
    (ground.root / "old/damaged").write_bytes(b"whxle")
    (ground.root / "old/missing").unlink()
    for name, content in ARRIVALS.items():
        ground.put(name, content)


def in_child(work: Callable[[], None]) -> int:
    """Run something in a forked process with a connection of its own; give its wait status."""
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def kill_at(number: int) -> Callable[[str], None]:
    left = [number]

    def reached(_: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def run(ground: Ground, options: dict[str, Any], *, kill: int = 0, links: bool = True) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        os.link = refuse
    if kill:
        steps.reached = kill_at(kill)
    finder = ground.finder(**options)
    while not (found := cycle(finder)).quiet:
        assert not found.blocked, found.blocked


def contents(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in root.rglob("*") if path.is_file()]


def check(ground: Ground) -> None:
    """I1, I2, I3, and nothing is left to do."""
    everywhere = {*contents(ground.source), *contents(ground.root)}
    assert everywhere >= {*ARRIVALS.values(), *STORED.values()}, "I1"
    ground.check()
    for file in File.objects.all():
        with open(ground.root / file.path, "rb") as stored:
            assert checksums(stored.fileno(), ["blake3"])["blake3"] == file.checksum, "I2"
    for name, content in STORED.items():
        assert ground.stored(name) == content, "I3"
    assert File.objects.filter(filename="twin").count() == 1
    assert File.objects.count() == len(STORED) + 4
    left = [path for path in ground.source.rglob("*") if path.is_file()]
    assert left == [ground.source / "old/conflict"], "all others are released"
    assert not File.objects.unreleased().exists()
    open_ones = Refusal.objects.unresolved()
    assert [refusal.reason for refusal in open_ones] == [RefusalReason.CONFLICT]
    assert not Refusal.objects.filter(reason=RefusalReason.VANISHED).exists()


WAYS = ["link", "rename", "copy"]


@pytest.mark.parametrize("twice", [False, True], ids=["once", "and in recovery"])
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_every_step(
    transactional_db: None,
    tmp_path: Path,
    other_file_system: Path,
    way: str,
    twice: bool,
) -> None:
    steps_seen = 0
    for number in range(1, 1000, 4 if twice else 1):
        here = tmp_path / f"{number}"
        here.mkdir()
        root = other_file_system / f"{number}" if way == "copy" else here / "store"
        ground = Ground(here, root)
        set_up(ground)
        links = way != "rename"
        options = {"fsync": number % 7 == 0}

        def work(
            kill: int, ground: Any = ground, options: Any = options, links: Any = links
        ) -> None:
            run(ground, options, kill=kill, links=links)

        status = in_child(lambda kill=number: work(kill))  # type: ignore[misc]
        if twice and os.WIFSIGNALED(status):
            in_child(lambda kill=1 + number % 5: work(kill))  # type: ignore[misc]
        assert os.waitstatus_to_exitcode(in_child(lambda: work(0))) == 0, f"after {number} steps"
        check(ground)
        clear()
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            break
        steps_seen += 1
    assert steps_seen > (4 if twice else 20)


def clear() -> None:
    Refusal.objects.all().delete()
    File.objects.all().delete()
    Storage.objects.all().delete()
