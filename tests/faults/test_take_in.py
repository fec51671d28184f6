"""SIGKILL at every step of the take-in protocol and at every system call that matters.

Twenty files, by each way of placing them: what a kill leaves is complete, and the next start
finishes it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connections

from tests.buffer.conftest import other_file_system
from tests.faults.dying import kill_at
from tests.faults.landing import ADOPTED, ARRIVALS, WAYS, Landing
from tests.tally import Tally
from tests.tools import need

__all__ = ["other_file_system"]

KILLED = -signal.SIGKILL


class Grounds:
    """Makes a fresh ground for every kill."""

    def __init__(self, here: Path, elsewhere: Path) -> None:
        self._here, self._elsewhere, self._count = here, elsewhere, 0

    def fresh(self, way: str) -> Landing:
        self._count += 1
        here = self._here / f"{self._count}"
        here.mkdir()
        root = self._elsewhere / f"{self._count}" if way == "copy" else here / "store"
        landing = Landing(here, root, way)
        landing.prepare()
        landing.land({**ARRIVALS, **ADOPTED})
        return landing

    def clear(self, landing: Landing) -> None:
        landing.clear()
        shutil.rmtree(landing.source.parent)
        shutil.rmtree(landing.root, ignore_errors=True)


@pytest.fixture
def grounds(transactional_db: None, tmp_path: Path, other_file_system: Path) -> Iterator[Grounds]:
    """Places for one kill after the other."""
    yield Grounds(tmp_path, other_file_system)


def heal(landing: Landing, where: str) -> float:
    """Start the finder again; give how long it took until all was right."""
    begin = time.monotonic()
    assert landing.run() == 0, where
    took = time.monotonic() - begin
    landing.check_healed()
    return took


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "stride", [pytest.param(1, marks=pytest.mark.full, id="all"), pytest.param(31, id="some")]
)
def test_killed_at_a_step(grounds: Grounds, way: str, stride: int, tally: Tally) -> None:
    number, kills, longest = 1, 0, 0.0
    while True:
        landing = grounds.fresh(way)
        status = landing.run(kill_at(number), fsync=number % 7 == 0)
        if status == KILLED:
            assert landing.check_after_fault() == [], f"{way}, killed at step {number}"
            kills += 1
        longest = max(longest, heal(landing, f"{way}, killed at step {number}"))
        grounds.clear(landing)
        if status != KILLED:
            assert status == 0
            break
        number += stride
    assert number > 50, "steps are missing"
    tally(f"SIGKILL at a step of take-in, {way}", kills, longest)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "stride", [pytest.param(5, marks=pytest.mark.full, id="all"), pytest.param(60, id="some")]
)
def test_killed_again_in_the_recovery(
    grounds: Grounds, way: str, stride: int, tally: Tally
) -> None:
    number, kills = 22, 0
    while True:
        landing = grounds.fresh(way)
        status = landing.run(kill_at(number))
        if status == KILLED:
            again = landing.run(kill_at(1 + number % 7))
            assert again in (0, KILLED)
            kills += again == KILLED
            assert landing.check_after_fault() == [], f"{way}, killed at step {number} and again"
        heal(landing, f"{way}, killed at step {number} and again")
        grounds.clear(landing)
        if status != KILLED:
            break
        number += stride
    assert kills
    tally(f"SIGKILL again in the recovery of take-in, {way}", kills)


def killed_by_strace(call: str, number: int) -> Callable[[], None]:
    """Give a fault: SIGKILL before the system call of a kind, counted from 1 in each thread."""

    def fault() -> None:
        command = ["-f", "-q", "-o", "/dev/null", "-e", f"trace={call}", "-e", "signal=none"]
        inject = f"inject={call}:signal=KILL:when={number}"
        connections.close_all()
        tracer = subprocess.Popen(
            [need("strace"), *command, "-e", inject, "-p", str(os.getpid())],
            stderr=subprocess.DEVNULL,
        )
        status = Path(f"/proc/{os.getpid()}/status")
        while f"TracerPid:\t{tracer.pid}\n" not in status.read_text():
            assert tracer.poll() is None, "strace cannot attach"
            time.sleep(0.005)

    return fault


#: Kinds of calls, and at which of them to kill in the short run.
CALLS = {
    "link": {"linkat": (2, 9), "unlinkat": (5,), "mkdirat": (2,), "fdatasync,fsync": (1, 3)},
    "rename": {"renameat2": (1, 11), "syncfs": (1,)},
    "copy": {"linkat": (4,), "write": (3,), "syncfs": (1,), "unlinkat": (12,)},
}
#: Those besides that the whole sweep goes through; the last two are the database's.
MORE_CALLS = (
    "linkat", "renameat2", "unlinkat", "mkdirat", "syncfs", "fdatasync,fsync", "write", "openat",
    "copy_file_range,sendfile", "pwrite64", "sendto",
)  # fmt: skip


def kill_by_strace(grounds: Grounds, way: str, call: str, number: int) -> tuple[bool, float]:
    """Kill a finder at a system call, and see that it heals; tell if there was such a call."""
    landing = grounds.fresh(way)
    where = f"{way}, killed at {call} number {number}"
    status = landing.run(killed_by_strace(call, number), fsync=True)
    assert status in (0, KILLED), where
    assert landing.check_after_fault() == [], where
    took = heal(landing, where)
    grounds.clear(landing)
    return status == KILLED, took


@pytest.mark.parametrize("way", WAYS)
def test_killed_at_a_system_call(grounds: Grounds, way: str, tally: Tally) -> None:
    done = [
        kill_by_strace(grounds, way, call, number)
        for call, numbers in CALLS[way].items()
        for number in numbers
    ]
    kills = sum(killed for killed, _ in done)
    assert kills > len(done) // 2
    tally(f"SIGKILL at a system call of take-in, {way}", kills, max(took for _, took in done))


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("call", MORE_CALLS)
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_every_system_call(grounds: Grounds, way: str, call: str, tally: Tally) -> None:
    kills, longest = 0, 0.0
    # Most of what is opened is looked at only.
    for number in range(1, 10_000, 5 if call == "openat" else 1):
        killed, took = kill_by_strace(grounds, way, call, number)
        if not killed:
            break
        kills, longest = kills + 1, max(longest, took)
    tally(f"SIGKILL at a system call of take-in, {way}", kills, longest)
