"""Figures by the hour."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache

from buffer.models import File
from ingest import figures as module
from ingest.figures import Arrivals, Latency, figures, last_hours, latency
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.statuses import Status

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]

NOW = datetime(2026, 11, 25, 18, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def arrive(make_file: MakeFile, ago: timedelta, took_s: float = 1, **fields: Any) -> File:
    at = NOW - ago
    seen = at - timedelta(seconds=took_s)
    return make_file(added_on=at, seen_on=seen, stored_on=at, **fields)


def end(
    ingester: Ingester, file: File, ago: timedelta, status: Status = Status.SUCCESS
) -> Ingestion:
    FileEvent.objects.create(file=file, ingester=ingester, status=status, start_time=NOW - ago)
    return Ingestion.objects.create(
        file=file, ingester=ingester, status=status, changed_on=NOW - ago
    )


def test_hours() -> None:
    hours = last_hours(NOW)
    assert (hours[0].hour, hours[-1].hour, len(hours)) == (19, 18, 24)


def test_arrivals_and_outcomes(ingester: Ingester, make_file: MakeFile) -> None:
    ages = [timedelta(days=3), timedelta(hours=23), timedelta(hours=5), timedelta(minutes=50)]
    files = [arrive(make_file, age) for age in ages]
    for file, age in zip(files, ages, strict=True):
        FileEvent.objects.create(
            file=file, ingester=ingester, status=Status.UNTRIED, start_time=NOW - age
        )
        end(ingester, file, age - timedelta(seconds=10))
    end(ingester, arrive(make_file, timedelta(0)), timedelta(0), Status.FAILURE)
    day = figures(NOW)
    counts = {hour.hour: one.files for hour, one in zip(day.hours, day.arrivals, strict=True)}
    assert {hour: n for hour, n in counts.items() if n} == {19: 1, 13: 1, 17: 1, 18: 1}
    outcomes = {
        (hour.hour, status): n
        for hour, counter in zip(day.hours, day.outcomes, strict=True)
        for (_, status), n in counter.items()
    }
    assert outcomes == {
        (19, "SUCCESS"): 1,
        (13, "SUCCESS"): 1,
        (17, "SUCCESS"): 1,
        (18, "FAILURE"): 1,
    }
    assert day.latest == {(ingester.pk, "SUCCESS"): 1, (ingester.pk, "FAILURE"): 1}


def test_hours_that_are_over_are_not_read_again(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(ingester, arrive(make_file, timedelta(hours=5)), timedelta(hours=5))
    before = figures(NOW)
    asked: list[datetime] = []

    def arrivals(since: datetime, look: Any = module._arrivals) -> Any:
        asked.append(since)
        return look(since)

    monkeypatch.setattr(module, "_arrivals", arrivals)
    arrive(make_file, timedelta(hours=5))
    arrive(make_file, timedelta(0))
    after = figures(NOW)
    assert asked == [NOW.replace(hour=17, minute=0)], "the hour before may not be complete yet"
    assert after.arrivals[:-1] == before.arrivals[:-1]
    assert after.arrivals[-1].files == 1
    assert after.outcomes == before.outcomes
    # An hour later, one more of them is settled.
    figures(NOW + timedelta(hours=1))
    assert asked[1] == NOW.replace(hour=17, minute=0)
    figures(NOW + timedelta(hours=1))
    assert asked[2] == NOW.replace(hour=18, minute=0)


def test_latency_of_those_that_arrived_in_an_hour(ingester: Ingester, make_file: MakeFile) -> None:
    for took_s in range(1, 21):
        file = arrive(make_file, timedelta(minutes=5), took_s)
        end(ingester, file, timedelta(minutes=5) - timedelta(seconds=2 * took_s))
    arrive(make_file, timedelta(minutes=5), 7)
    end(ingester, arrive(make_file, timedelta(hours=3), 4), timedelta(0), Status.FAILURE)
    day = figures(NOW)
    assert day.storing[-1] == Latency(10, 19)
    assert day.ingesting[-1] == Latency(20, 38)
    assert day.storing[-4] == Latency(4, 4)
    assert day.ingesting[-4] == Latency(), "it did not get in"


def test_times_of_hours_that_are_over_are_looked_up_now_and_then(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = arrive(make_file, timedelta(hours=5))
    end(ingester, early, timedelta(hours=5) - timedelta(seconds=3))
    late = arrive(make_file, timedelta(hours=5))
    recent = arrive(make_file, timedelta(minutes=5))
    assert figures(NOW).ingesting[-6] == Latency(3, 3)
    end(ingester, late, timedelta(hours=4))
    end(ingester, recent, timedelta(minutes=4))
    again = figures(NOW)
    assert again.ingesting[-6] == Latency(3, 3), "remembered"
    assert again.ingesting[-1] == Latency(60, 60)
    later = SimpleNamespace(time=lambda: time.time() + 601)
    monkeypatch.setattr("django.core.cache.backends.locmem.time", later)
    assert figures(NOW).ingesting[-6] == Latency(3, 3600)


def test_a_sample_is_bounded() -> None:
    assert len(Arrivals(1_000_000, 1, 1_000_000).sample()) in range(100, 202)
    assert list(Arrivals(3, 7, 9).sample()) == [7, 8, 9]
    assert not list(Arrivals().sample())


def test_percentiles() -> None:
    assert latency([]) == Latency()
    assert latency([5]) == Latency(5, 5)
    assert latency([-3, 1]) == Latency(0, 1)
    assert latency([float(n) for n in range(1, 101)]) == Latency(50, 95)


def test_nothing_at_all() -> None:
    day = figures(NOW)
    assert not any(one.files for one in day.arrivals)
    assert not any(day.outcomes)
