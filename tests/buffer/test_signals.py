"""Signals that ask a command to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from buffer.signals import STOP_SIGNALS, StopSignals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """These tests are not about to end."""
    before = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", STOP_SIGNALS)
def test_a_signal_sets_the_flag_and_a_second_changes_nothing(signum: signal.Signals) -> None:
    with StopSignals() as stop:
        assert not stop.requested
        assert stop.wait(0) is False
        os.kill(os.getpid(), signum)
        assert stop.wait(5) is True
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signum == signum


def test_a_signal_ends_the_wait() -> None:
    with StopSignals() as stop:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        begin = time.monotonic()
        assert stop.wait(10)
        assert time.monotonic() - begin < 5


def test_without_a_signal_it_waits_its_time() -> None:
    with StopSignals() as stop:
        begin = time.monotonic()
        assert not stop.wait(0.05)
        assert time.monotonic() - begin >= 0.05


def test_handlers_come_back() -> None:
    before = [signal.getsignal(signum) for signum in STOP_SIGNALS]
    with StopSignals():
        assert [signal.getsignal(signum) for signum in STOP_SIGNALS] != before
    assert [signal.getsignal(signum) for signum in STOP_SIGNALS] == before


def test_after_a_request_what_comes_while_the_process_ends_is_ignored() -> None:
    with StopSignals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(signum) for signum in STOP_SIGNALS] == [signal.SIG_IGN] * 3


def test_in_a_thread_the_flag_stays_down() -> None:
    seen: list[bool] = []

    def use() -> None:
        with StopSignals() as stop:
            seen.append(stop.wait(0.01))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [False]
