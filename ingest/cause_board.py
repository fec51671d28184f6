"""Failures grouped by their cause, as they stand now.

Everything is counted from one partial index that holds only files that failed: what it costs goes
with their number, and neither with that of all files nor with history. However many causes there
are, a page shows some of them, the most frequent first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Count, Exists, F, Max, Min, OuterRef, QuerySet, Sum
from django.db.models.functions import Coalesce

from buffer import dialect
from buffer.models import File
from ingest.figures import HOURS, last_hours
from ingest.models import IgnoredCause, Ingestion, IngestionQuerySet

#: Causes on one page.
PAGE: Final = 25


@dataclass(slots=True)
class CauseRow:
    """One cause at one ingester.

    Parameters
    ----------
    cause : `str`
        The normalised message; may be empty.
    count : `int`
        Files that stand there with it.
    first, last : `~datetime.datetime`
        When the first and the last of them came to stand there.
    hours : `list` [`int`]
        How many of them in each of the last 24 hours, the latest at the end.
    examples : `list` [`File`]
        The oldest and the newest of the files.
    ignored : `IgnoredCause` or `None`
        The decision to ignore it, if it stands.
    """

    cause: str
    count: int
    first: datetime
    last: datetime
    hours: list[int] = field(default_factory=list)
    examples: list[File] = field(default_factory=list)
    ignored: IgnoredCause | None = None

    @property
    def last_day(self) -> int:
        """How many in the last 24 hours."""
        return sum(self.hours)


@dataclass(frozen=True, slots=True)
class CausePage:
    """Some causes of an ingester's failures.

    Parameters
    ----------
    rows : `list` [`CauseRow`]
        The causes of this page.
    causes, files : `int`
        How many there are on all pages.
    number : `int`
        Which page, from 1.
    """

    rows: list[CauseRow]
    causes: int
    files: int
    number: int

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.causes // PAGE))


def failed(ingester_id: int) -> IngestionQuerySet:
    """Give the files that an operator may have to look at."""
    return Ingestion.objects.troubled().filter(ingester=ingester_id).order_by()


def causes(
    ingester_id: int, *, ignored: bool = False, containing: str = "", number: int = 1
) -> CausePage:
    """Group an ingester's failures by cause, the most frequent first.

    Parameters
    ----------
    ingester_id : `int`
        Whose.
    ignored : `bool`, optional
        Those that are ignored, instead of the others.
    containing : `str`, optional
        Only causes with this text in them; case does not matter.
    number : `int`, optional
        Which page, from 1.
    """
    decisions, files = _chosen(ingester_id, ignored=ignored, containing=containing)
    groups = files.values("cause").annotate(n=Count("*"))
    total = groups.aggregate(causes=Count("cause"), files=Coalesce(Sum("n"), 0))
    # Beyond the last page there is the first.
    number = number if (number - 1) * PAGE < total["causes"] else 1
    some = _grouped(files)[(number - 1) * PAGE : number * PAGE]
    return CausePage(
        _completed(ingester_id, some, decisions), total["causes"], total["files"], number
    )


def every_cause(ingester_id: int, *, ignored: bool, containing: str) -> Iterator[dict[str, Any]]:
    """Give cause, count, first and last of all groups, as they are read."""
    _, files = _chosen(ingester_id, ignored=ignored, containing=containing)
    yield from _grouped(files).iterator()


def one_cause(ingester_id: int, cause: str) -> CauseRow | None:
    """Look at one cause; None if no file stands with it."""
    files = failed(ingester_id).filter(cause=cause)
    decisions = _ignored(ingester_id).filter(cause=cause)
    rows = _completed(ingester_id, _grouped(files), {row.cause: row for row in decisions})
    return rows[0] if rows else None


def needing_a_person() -> dict[int, tuple[int, int]]:
    """Count files and causes that call for a person, by the ingester's id; ignored ones do not."""
    ignored = IgnoredCause.objects.filter(
        ingester=OuterRef("ingester"), cause=OuterRef("cause"), taken_back_on__isnull=True
    )
    groups = (
        Ingestion.objects.troubled()
        .exclude(Exists(ignored))
        .order_by()
        .values_list("ingester")
        .annotate(files=Count("*"), causes=Count("cause", distinct=True))
    )
    return {ingester_id: (files, kinds) for ingester_id, files, kinds in groups}


def beside_ignored(ingester_id: int) -> list[IngestionQuerySet]:
    """Give the files that call for a person in parts: of causes between two that are ignored.

    The index is in the order of causes. So the files of ignored ones, which may be very many, are
    stepped over; left out by a condition, they would all be read.
    """
    ignored = _ignored(ingester_id)
    parts, rest = [], failed(ingester_id)
    for cause in ignored.order_by("cause").values_list("cause", flat=True):
        parts.append(rest.filter(cause__lt=cause))
        rest = failed(ingester_id).filter(cause__gt=cause)
    return [*parts, rest]


def some_causes(ingester_id: int, most: int) -> list[str]:
    """Give causes that call for a person, up to a number; their files are stepped over."""
    ignored = set(_ignored(ingester_id).values_list("cause", flat=True))
    found: list[str] = []
    cause = _least_cause(failed(ingester_id))
    while cause is not None and len(found) < most:
        if cause not in ignored:
            found.append(cause)
        # One bound only: of two, SQLite may choose the one behind which all others lie.
        cause = _least_cause(failed(ingester_id).filter(cause__gt=cause))
    return found


def _ignored(ingester_id: int) -> QuerySet[IgnoredCause]:
    """Give the decisions of an ingester that stand."""
    return IgnoredCause.objects.filter(ingester=ingester_id, taken_back_on__isnull=True)


def _least_cause(rows: IngestionQuerySet) -> str | None:
    return rows.order_by("cause").values_list("cause", flat=True).first()


def _chosen(
    ingester_id: int, *, ignored: bool, containing: str
) -> tuple[dict[str, IgnoredCause], QuerySet[Ingestion]]:
    decisions = {row.cause: row for row in _ignored(ingester_id)}
    files = failed(ingester_id)
    if ignored:
        files = files.filter(cause__in=decisions)
    elif decisions:
        files = files.exclude(cause__in=decisions)
    if containing:
        files = files.filter(cause__icontains=containing)
    return decisions, files


def _grouped(files: QuerySet[Ingestion]) -> QuerySet[Any, Any]:
    groups = files.values("cause").annotate(
        n=Count("*"),
        first=Min("changed_on"),
        last=Max("changed_on"),
        oldest=Min("file"),
        newest=Max("file"),
    )
    return groups.order_by("-n", "cause")


def _completed(
    ingester_id: int, groups: Iterable[Mapping[str, Any]], decisions: Mapping[str, IgnoredCause]
) -> list[CauseRow]:
    """Add what a page shows of each cause: two queries for all of them."""
    groups = list(groups)
    hours = _by_hour(ingester_id, [group["cause"] for group in groups])
    wanted = {group[key] for group in groups for key in ("oldest", "newest")}
    files = File.objects.in_bulk(wanted)
    return [
        CauseRow(
            group["cause"],
            group["n"],
            group["first"],
            group["last"],
            hours[group["cause"]],
            [files[pk] for pk in sorted({group["oldest"], group["newest"]}) if pk in files],
            decisions.get(group["cause"]),
        )
        for group in groups
    ]


def _by_hour(ingester_id: int, wanted: list[str]) -> dict[str, list[int]]:
    begin = last_hours(dialect.clock())[0]
    found: dict[str, list[int]] = {cause: [0] * HOURS for cause in wanted}
    groups = (
        failed(ingester_id)
        .filter(cause__in=wanted, changed_on__gte=begin)
        .annotate(hour=dialect.Hour("changed_on"))
        .values_list("cause", "hour")
        .annotate(n=Count("*"))
    )
    for cause, hour, n in groups:
        at = int((hour - begin) / timedelta(hours=1))
        # A clock may have been ahead.
        found[cause][min(at, HOURS - 1)] += n
    return found


def examples(ingester_id: int, cause: str, count: int) -> list[Ingestion]:
    """Give the files that came to stand with a cause last, with what was said of them."""
    rows = failed(ingester_id).filter(cause=cause).select_related("file", "last_event")
    return list(rows.order_by(F("changed_on").desc())[:count])
