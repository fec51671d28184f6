"""Judging processes by their signs of life."""

from __future__ import annotations

import time

import pytest

from buffer import watchdog
from buffer.board import FIRST_WORKER, MONITOR, PUSHER, SENTINEL, Board
from buffer.wakeups import WakeUps
from buffer.watchdog import Finding, Watchdog

IDLE, BUSY = FIRST_WORKER, FIRST_WORKER + 1


@pytest.fixture
def board() -> Board:
    """A board on which everybody is well, one worker idle and one busy."""
    made = Board(2)
    for index, slot in enumerate(made.slots):
        slot.pid = 100 + index
        slot.beat = time.monotonic() + 100
    made.slots[BUSY].busy_since = time.monotonic()
    return made


@pytest.fixture
def dog(board: Board) -> Watchdog:
    return Watchdog(board, WakeUps("probe", 90), canary_s=0.05)


def silence(board: Board, index: int) -> None:
    board.slots[index].beat = 0
    time.sleep(0.06)


def test_nothing_wrong(dog: Watchdog) -> None:
    assert dog.look() is None


def test_a_silent_sentinel_means_a_restart(dog: Watchdog, board: Board) -> None:
    silence(board, SENTINEL)
    assert dog.look() == Finding("their sentinel was silent for 0.05 s")


def test_a_silent_idle_worker_is_to_be_killed(dog: Watchdog, board: Board) -> None:
    silence(board, IDLE)
    assert dog.look() == Finding("worker 103 was silent for 0.05 s", (103,))


def test_a_busy_worker_may_be_silent_unless_its_session_gives_signs_of_life(
    dog: Watchdog, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "BUSY_SILENCE_S", 0.05)
    silence(board, BUSY)
    assert dog.look() is None
    board.slots[BUSY].beats = 1
    assert dog.look() == Finding("worker 104 was silent for 0.05 s", (104,))


@pytest.mark.parametrize(("index", "role"), [(MONITOR, "monitor"), (PUSHER, "pusher")])
def test_those_who_talk_to_the_broker_get_more_time(
    dog: Watchdog, board: Board, monkeypatch: pytest.MonkeyPatch, index: int, role: str
) -> None:
    silence(board, index)
    assert dog.look() is None
    monkeypatch.setattr(watchdog, "BROKER_SILENCE_S", 0.05)
    assert dog.look() == Finding(f"{role} {100 + index} was silent for 0.05 s", (100 + index,))


def test_who_was_held_up_itself_judges_nobody(
    dog: Watchdog, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "HELD_UP_S", 0.05)
    silence(board, SENTINEL)
    assert dog.look() is None
    time.sleep(0.01)
    assert dog.look() is None


@pytest.mark.django_db
def test_a_wake_up_that_no_idle_worker_takes_is_a_canary(board: Board) -> None:
    dog = Watchdog(board, WakeUps("probe", 90), canary_s=30)
    dog._patient_since = 0.0
    dog.wakeups.send("any.function")
    assert dog.look() is None
    dog.wakeups.sent_at -= 31
    # First those who should have taken it; if that does not help, all.
    assert dog.look() == Finding("wake-ups wait although workers are idle", (102, 103))
    assert dog.look() is None
    dog.wakeups.sent_at -= 31
    assert dog.look() == Finding("wake-ups still wait although workers are idle")


@pytest.mark.django_db
def test_the_age_of_the_canary(dog: Watchdog, board: Board) -> None:
    assert dog.canary_age_s() == 0
    dog.wakeups.send("any.function")
    time.sleep(0.06)
    assert 0.06 <= dog.canary_age_s() < 5
    board.slots[IDLE].busy_since = time.monotonic()
    assert dog.canary_age_s() == 0


@pytest.mark.django_db
def test_no_canary_while_work_goes_on(dog: Watchdog, board: Board) -> None:
    dog.wakeups.send("any.function")
    time.sleep(0.06)
    board.slots[BUSY].sessions += 1
    assert dog.look() is None
    assert dog.wakeups.sent_at == 0


@pytest.mark.django_db
def test_no_canary_while_all_workers_are_busy(dog: Watchdog, board: Board) -> None:
    dog.wakeups.send("any.function")
    board.slots[IDLE].busy_since = time.monotonic()
    time.sleep(0.06)
    assert dog.look() is None


@pytest.mark.django_db
def test_a_wake_up_that_another_command_sent_is_a_canary_too(dog: Watchdog) -> None:
    dog.wakeups.notice_others()
    assert dog.wakeups.sent_at == 0
    WakeUps("probe", 90).send("any.function")
    dog.wakeups.notice_others()
    assert dog.look() is None
    time.sleep(0.06)
    assert dog.look() == Finding("wake-ups wait although workers are idle", (102, 103))


@pytest.mark.django_db
def test_a_wake_up_that_another_host_took_is_no_canary(dog: Watchdog) -> None:
    dog.wakeups.send("any.function")
    assert dog.wakeups.waiting() == 1
    dog.wakeups.purge()
    assert dog.wakeups.waiting() == 0
    dog.wakeups.sent_at = time.monotonic()
    time.sleep(0.06)
    assert dog.look() is None
    assert dog.wakeups.sent_at == 0
