"""What waits and what failed at each ingester, at a cost that grows with that and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django.db.models import Count, Exists, Min, OuterRef, QuerySet
from django.utils import timezone

from buffer.models import File
from ingest.claims import IN_WAITING_INDEX
from ingest.models import Ingester, Ingestion
from ingest.statuses import DEFAULT_WANTED, NEEDS_A_PERSON, Status

#: The oldest of more waiting files than this is looked for among those that are tried next.
LOOKED_AT: Final = 10_000


@dataclass(slots=True)
class Backlog:
    """What is left to do at one ingester.

    Parameters
    ----------
    files : `int`
        Files that wait for an attempt, those included that are not opened yet.
    oldest : `~datetime.datetime` or `None`
        Since when the oldest of them waits.
    needing_a_person : `dict` [`Status`, `int`]
        Files by status that may need one.
    """

    files: int = 0
    oldest: datetime | None = None
    needing_a_person: dict[Status, int] = field(
        default_factory=lambda: dict.fromkeys(NEEDS_A_PERSON, 0)
    )

    def add(self, files: int, oldest: datetime | None) -> None:
        """Add files that wait."""
        self.files += files
        if oldest is not None:
            self.oldest = oldest if self.oldest is None else min(self.oldest, oldest)


def backlog(ingester: Ingester) -> Backlog:
    """Look at one ingester."""
    found = Backlog(*_unopened(ingester))
    rows = _rows(ingester, *DEFAULT_WANTED, *NEEDS_A_PERSON).order_by()
    for status, number in rows.values_list("status").annotate(n=Count("id")):
        if status in DEFAULT_WANTED:
            found.add(number, _oldest(_rows(ingester, status)))
        else:
            found.needing_a_person[Status(status)] = number
    return found


def held() -> dict[int, int]:
    """Count the files that workers hold now, by ingester."""
    rows = Ingestion.objects.filter(claim__isnull=False).order_by().values_list("ingester")
    return dict(rows.annotate(n=Count("pk")))


def _rows(ingester: Ingester, *statuses: Status) -> QuerySet[Ingestion]:
    """Give rows in words that SQLite too finds in the index on what waits."""
    rows = Ingestion.objects.filter(ingester=ingester, status__in=statuses)
    return rows.extra(where=[IN_WAITING_INDEX])


def _oldest(rows: QuerySet[Ingestion]) -> datetime | None:
    # Files are claimed in the order of their ids.
    oldest: datetime | None = rows.order_by("id")[:LOOKED_AT].aggregate(oldest=Min("changed_on"))[
        "oldest"
    ]
    return oldest


def unopened(ingester: Ingester) -> QuerySet[File]:
    """Give the stored files that an ingester has not opened yet; they lie above its mark.

    Backfill or an operator has given others that lie there a status, too.
    """
    known = Ingestion.objects.filter(file=OuterRef("pk"), ingester=ingester)
    files = File.objects.stored().among(ingester.storage_id)
    return files.filter(~Exists(known), pk__gt=ingester.watermark)


def _unopened(ingester: Ingester) -> tuple[int, datetime | None]:
    counts = unopened(ingester).aggregate(n=Count("id"), oldest=Min("stored_on"))
    return counts["n"], counts["oldest"]


def seconds_since(moment: datetime | None, now: datetime | None = None) -> float:
    """Tell how long ago something was; 0 if it never was, or is to come."""
    if moment is None:
        return 0.0
    return max(0.0, ((now or timezone.now()) - moment).total_seconds())
