"""The queue of wake-ups; what crosses it to workers is in test_workers and test_watchdog."""

from __future__ import annotations

import pytest

from buffer.wakeups import WakeUps, WorkerTimeouts
from buffer.workers import Workers


def test_timeouts_leave_room_for_a_prefetched_task_on_one_worker() -> None:
    assert WorkerTimeouts.for_session(60) == (90, 330)
    assert WorkerTimeouts.for_session(60, workers=4) == (90, 240)
    assert Workers("any", 8, session_timeout_s=59.5).timeouts == (90, 330)


def test_large_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at most 65536 bytes"):
        WakeUps("any", 90).send("any.function", "x" * 70_000)
