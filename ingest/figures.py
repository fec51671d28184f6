"""Figures by the hour, of the last day: what arrived, what became of it, and how long it took.

History is read where the ids say that it happened, and hours that are over are remembered in
Django's cache: a page costs what happened in the last two hours, whatever lies before them. What
the files of older hours took is looked up every ten minutes.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from django.core.cache import cache
from django.db.models import Count, Max, Min, Model, QuerySet

from buffer.admin_base import first_id_since
from buffer.dialect import Hour
from buffer.models import File
from ingest.models import FileEvent, Ingestion
from ingest.statuses import Status

HOURS: Final = 24
_HOUR: Final = timedelta(hours=1)
#: An hour is over for good when it ended this long ago: what took long is recorded late.
_SETTLED_AFTER: Final = timedelta(hours=1)
_REMEMBERED_S: Final = 26 * 3600
#: What the files of an hour took is not settled with the hour: some get in late.
_TIMES_REMEMBERED_S: Final = 600
#: Files of each hour whose times are looked at.
SAMPLE: Final = 100

#: Statuses that end an attempt, or make it needless.
OUTCOMES: Final = (
    Status.SUCCESS,
    Status.FAILURE,
    Status.UNKNOWN,
    Status.INVALID,
    Status.IGNORED,
)

Hourly = TypeVar("Hourly")
#: How many, by ingester and status.
Outcomes = Counter[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Files that were taken in during one hour: how many, and their ids."""

    files: int = 0
    first_id: int = 0
    last_id: int = -1

    def sample(self) -> range:
        """Give some of the ids, evenly spread."""
        step = max(1, (self.last_id - self.first_id + 1) // SAMPLE)
        return range(self.first_id, self.last_id + 1, step)


@dataclass(frozen=True, slots=True)
class Latency:
    """How long some files of one hour took; seconds, None if nothing is known."""

    median: float | None = None
    p95: float | None = None


#: What storing and ingesting took, of the files that arrived in each hour.
_Times = dict[datetime, tuple[Latency, Latency]]
_NO_TIMES: Final = (Latency(), Latency())


@dataclass(frozen=True, slots=True)
class Figures:
    """The last day by the hour.

    Parameters
    ----------
    hours : `list` [`~datetime.datetime`]
        Beginnings of whole hours, UTC; the last one is not over.
    arrivals : `list` [`Arrivals`]
        What was taken in.
    outcomes : `list` [`Outcomes`]
        How attempts ended.
    latest : `Outcomes`
        How those of the last 60 minutes ended.
    storing, ingesting : `list` [`Latency`]
        From landing to stored, and from stored to SUCCESS at an ingester, of a sample of the
        files that arrived in each hour.
    """

    hours: list[datetime]
    arrivals: list[Arrivals]
    outcomes: list[Outcomes]
    latest: Outcomes = field(default_factory=Counter)
    storing: list[Latency] = field(default_factory=list)
    ingesting: list[Latency] = field(default_factory=list)


def figures(now: datetime) -> Figures:
    """Look at the last day.

    Parameters
    ----------
    now : `~datetime.datetime`
        The time by the database's clock.
    """
    hours = last_hours(now)
    arrivals = _remembered("arrivals", hours, now, _arrivals)
    outcomes = _remembered("outcomes", hours, now, _outcomes)
    times = _times(arrivals, _settled(hours, now))
    return Figures(
        hours=hours,
        arrivals=[arrivals.get(hour, Arrivals()) for hour in hours],
        outcomes=[outcomes.get(hour, Counter()) for hour in hours],
        latest=_outcomes_since(now - _HOUR, hours),
        storing=[times.get(hour, _NO_TIMES)[0] for hour in hours],
        ingesting=[times.get(hour, _NO_TIMES)[1] for hour in hours],
    )


def last_hours(now: datetime) -> list[datetime]:
    """Give the whole hours of the last day, the running one last."""
    running = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return [running - n * _HOUR for n in reversed(range(HOURS))]


def _remembered(
    name: str,
    hours: list[datetime],
    now: datetime,
    look: Callable[[datetime], Mapping[datetime, Hourly]],
) -> dict[datetime, Hourly]:
    """Take settled hours from the cache, and look at the others; `look` begins at a time."""
    keys = _keys(name, _settled(hours, now))
    known = {keys[key]: value for key, value in cache.get_many(keys).items()}
    missing = [hour for hour in hours if hour not in known]
    seen = look(missing[0])
    # An hour in which nothing happened is remembered as that.
    fresh = {key: seen.get(hour) for key, hour in keys.items() if hour not in known}
    if fresh:
        cache.set_many(fresh, _REMEMBERED_S)
    found = {**seen, **known}
    return {hour: value for hour, value in found.items() if value is not None}


def _settled(hours: Iterable[datetime], now: datetime) -> list[datetime]:
    return [hour for hour in hours if hour + _HOUR + _SETTLED_AFTER <= now]


def _keys(name: str, hours: Iterable[datetime]) -> dict[str, datetime]:
    return {f"figures-{name}-{hour:%Y%m%d%H}": hour for hour in hours}


def _arrivals(since: datetime) -> dict[datetime, Arrivals]:
    rows = (
        File.objects.filter(pk__gte=_first_id(File, "added_on", since), added_on__gte=since)
        .annotate(hour=Hour("added_on"))
        .order_by()
        .values_list("hour")
        .annotate(files=Count("pk"), first=Min("pk"), last=Max("pk"))
    )
    return {hour: Arrivals(files, first, last) for hour, files, first, last in rows}


def _outcomes(since: datetime) -> dict[datetime, Outcomes]:
    rows = (
        _events(since)
        .annotate(hour=Hour("start_time"))
        .values_list("hour", "ingester_id", "status")
        .annotate(n=Count("pk"))
    )
    found: dict[datetime, Outcomes] = defaultdict(Counter)
    for hour, ingester_id, status, n in rows:
        found[hour][ingester_id, status] = n
    return found


def _outcomes_since(moment: datetime, hours: list[datetime]) -> Outcomes:
    hour = max(hour for hour in hours if hour <= moment)
    rows = _events(hour).filter(start_time__gte=moment).values_list("ingester_id", "status")
    return Counter({(one, status): n for one, status, n in rows.annotate(n=Count("pk"))})


def _events(since: datetime) -> QuerySet[FileEvent]:
    first = _first_id(FileEvent, "start_time", since)
    return FileEvent.objects.filter(
        pk__gte=first, start_time__gte=since, status__in=OUTCOMES
    ).order_by()


def _first_id(model: type[Model], field: str, hour: datetime) -> int:
    """Find the first row of an hour; the halving takes many small queries, so remember it."""
    key = f"figures-first-{model._meta.model_name}-{hour:%Y%m%d%H}"
    first: int | None = cache.get(key)
    if first is None:
        first = first_id_since(model, field, hour)
        cache.set(key, first, _REMEMBERED_S)
    return first


def _times(arrivals: Mapping[datetime, Arrivals], settled: Iterable[datetime]) -> _Times:
    """Give what storing and ingesting took, of hours in which something arrived."""
    keys = _keys("times", [hour for hour in settled if hour in arrivals])
    known = {keys[key]: value for key, value in cache.get_many(keys).items()}
    seen = _look_at_times({h: one for h, one in arrivals.items() if h not in known})
    fresh = {key: seen[hour] for key, hour in keys.items() if hour in seen}
    if fresh:
        cache.set_many(fresh, _TIMES_REMEMBERED_S)
    return {**seen, **known}


def _look_at_times(arrivals: Mapping[datetime, Arrivals]) -> _Times:
    samples = {hour: list(one.sample()) for hour, one in arrivals.items()}
    ids = [pk for sample in samples.values() for pk in sample]
    stored = File.objects.filter(pk__in=ids).values_list("pk", "seen_on", "stored_on")
    stored_on = {pk: done for pk, _, done in stored if done is not None}
    storing = {
        pk: (done - seen).total_seconds()
        for pk, seen, done in stored
        if done is not None and seen is not None
    }
    ingesting: dict[int, list[float]] = defaultdict(list)
    got_in = Ingestion.objects.filter(file__in=ids, status=Status.SUCCESS)
    for pk, changed_on in got_in.values_list("file_id", "changed_on"):
        if pk in stored_on:
            ingesting[pk].append((changed_on - stored_on[pk]).total_seconds())
    return {
        hour: (
            latency([storing[pk] for pk in sample if pk in storing]),
            latency([took for pk in sample for took in ingesting[pk]]),
        )
        for hour, sample in samples.items()
    }


def latency(took: list[float]) -> Latency:
    """Sum up durations; clocks that were set may have made some of them negative."""
    ordered = sorted(max(0.0, one) for one in took)
    if not ordered:
        return Latency()
    return Latency(_at(ordered, 0.5), _at(ordered, 0.95))


def _at(ordered: list[float], part: float) -> float:
    """Give the value below which a part of them lies (nearest rank)."""
    return ordered[math.ceil(part * len(ordered)) - 1]
