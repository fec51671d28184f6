"""When a file counts as complete."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest

from buffer.settling import Settling, State, is_open_for_writing, state_of


class Clock:
    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 50.0

    def go(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settling(clock: Clock) -> Settling:
    return Settling(2.0, wall=lambda: clock.wall, steady=lambda: clock.steady)


def state(changed: float, size: int = 1) -> State:
    return (1, 2, size, 0, int(changed * 1e9))


def test_quiet_for_long_enough(settling: Settling, clock: Clock) -> None:
    now = state(clock.wall)
    assert not settling.is_settled("a", now)
    clock.go(1.9)
    assert not settling.is_settled("a", now)
    assert settling.is_waited_for("a")
    clock.go(0.2)
    assert settling.is_settled("a", now)
    assert not settling.is_waited_for("a")


def test_an_old_file_needs_no_watching(settling: Settling, clock: Clock) -> None:
    assert settling.is_settled("a", state(clock.wall - 10))
    assert len(settling) == 0


def test_every_change_begins_anew(settling: Settling, clock: Clock) -> None:
    settling.is_settled("a", state(clock.wall))
    clock.go(1.5)
    assert not settling.is_settled("a", state(clock.wall, size=2))
    clock.go(1.5)
    assert not settling.is_settled("a", state(clock.wall - 1.5, size=2))


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_step_of_the_clock(settling: Settling, clock: Clock, step: float) -> None:
    """Neither makes a file look older than it is; going by the steady clock it settles."""
    changed = state(clock.wall)
    clock.wall += step
    assert not settling.is_settled("a", changed)
    clock.go(2.1)
    assert settling.is_settled("a", changed)


def test_caught_being_written(settling: Settling, clock: Clock) -> None:
    old = state(clock.wall - 100)
    settling.restart("a", old)
    assert not settling.is_settled("a", old)
    clock.go(2.1)
    assert settling.is_settled("a", old)


def test_what_is_gone_is_forgotten(settling: Settling, clock: Clock) -> None:
    settling.is_settled("a", state(clock.wall))
    settling.end_of_scan()
    settling.is_settled("b", state(clock.wall))
    settling.end_of_scan()
    assert (settling.is_waited_for("a"), settling.is_waited_for("b")) == (False, True)


def test_leases_tell_of_writers(tmp_path: Path) -> None:
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    path = tmp_path / "a"
    path.write_bytes(b"x")
    descriptor = os.open(path, os.O_RDONLY)
    assert is_open_for_writing(descriptor) in (False, None)
    if is_open_for_writing(descriptor) is not None:
        with open(path, "ab"):
            assert is_open_for_writing(descriptor) is True
        with open(path, "rb"):
            assert is_open_for_writing(descriptor) is False
    os.close(descriptor)


def test_state_of(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    before = state_of(path.stat())
    os.chmod(path, 0o600)
    os.utime(path, ns=(0, path.stat().st_mtime_ns))
    assert state_of(path.stat())[:4] == before[:4]


def test_who_is_due(settling: Settling, clock: Clock) -> None:
    assert settling.due() == [] and settling.due_in() == math.inf
    for path in ("a", "b"):
        settling.restart(path, state(0))
        clock.go(0.5)
    assert settling.due() == [] and settling.due_in() == 1.0
    clock.go(1.0)
    assert settling.due() == ["a"] and settling.due_in() == 0.0
    # Written to again: it goes to the end.
    assert not settling.is_settled("a", state(clock.wall, size=2))
    assert settling.due() == [] and settling.due_in() == 0.5
    clock.go(2.0)
    assert settling.due() == ["b", "a"]
    assert settling.is_settled("b", state(0))
    assert settling.due() == ["a"]
