"""How many batches a worker claims at once."""

from __future__ import annotations

import pytest

from ingest import pace
from ingest.pace import Pace


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Give the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "time", made)
    return made


def plenty(_: int) -> bool:
    return True


def test_the_first_claim_is_one_batch(clock: Clock) -> None:
    assert Pace(10, 64).limit(plenty) == 10


@pytest.mark.parametrize(
    ("batch_size", "batch_s", "limit"),
    [
        (10, 1.0, 50),  # five seconds' worth
        (10, 2.5, 20),
        (10, 2.6, 10),
        (10, 0.001, pace.MOST_FILES),
        (30, 0.001, 90),
        (500, 0.001, 500),
        (1, 0.1, 50),
        (10, 0.0, pace.MOST_FILES),
    ],
)
def test_a_claim_is_for_some_seconds(batch_size: int, batch_s: float, limit: int) -> None:
    worker = Pace(batch_size, 1)
    worker.took(batch_size, batch_s)
    assert worker.limit(plenty) == limit
    worker.took(limit, batch_s * limit / batch_size)
    assert worker.limit(plenty) == limit, "the pace is the same, however many it claimed"


def test_where_little_waits_nobody_holds_what_others_could_do(
    clock: Clock,
) -> None:
    worker = Pace(10, 64)
    worker.took(10, 1.0)
    asked: list[int] = []

    def waits(more_than: int) -> bool:
        asked.append(more_than)
        return len(asked) > 1

    assert worker.limit(waits) == worker.limit(waits) == 10
    assert asked == [50 * 64 * pace.PLENTY], "it does not ask for each claim"
    clock.now += pace.BELIEVED_S
    assert worker.limit(waits) == worker.limit(waits) == 50
    assert len(asked) == 2


def test_workers_of_other_hosts_are_not_known() -> None:
    worker = Pace(10, 1)
    worker.took(10, 1.0)
    asked: list[int] = []
    worker.limit(lambda more_than: bool(asked.append(more_than)))
    assert asked == [50 * pace.FEWEST_WORKERS * pace.PLENTY]
