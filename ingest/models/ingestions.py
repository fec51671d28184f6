"""The present: where each file stands at each ingester."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from buffer.models import File
from ingest.models.ingesters import Ingester
from ingest.statuses import CLAIMABLE, NEEDS_A_PERSON, Status


class _Literal(models.Value):
    """A word that is part of the statement itself.

    SQLite uses a partial index only where a query has the index's condition word for word.
    """

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[str | int, ...]]:
        """Write it down; only names of statuses come here."""
        assert self.value in Status.values
        return f"'{self.value}'", ()


def _words(statuses: Iterable[Status]) -> list[_Literal]:
    return [_Literal(status.value) for status in sorted(statuses)]


class IngestionQuerySet(models.QuerySet["Ingestion"]):
    """Named queries on ingestions; each has an index."""

    def claimable(self) -> IngestionQuerySet:
        """Those with a status that an ingester may be told to take."""
        return self.filter(status__in=_words(CLAIMABLE))

    def troubled(self) -> IngestionQuerySet:
        """Those that may need a person."""
        return self.filter(status__in=_words(NEEDS_A_PERSON))


class Ingestion(models.Model):
    """The current state of one file at one ingester.

    Written by `ingest.transitions` only.
    """

    file = models.ForeignKey(File, on_delete=models.CASCADE, db_index=False)
    ingester = models.ForeignKey(Ingester, on_delete=models.PROTECT, db_index=False)
    status = models.CharField(max_length=8, choices=Status.choices)
    cause = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    changed_on = models.DateTimeField(default=timezone.now, help_text="When it got this status.")
    next_attempt_on = models.DateTimeField(
        null=True, help_text="When a retry, or a question to the target, is due."
    )
    claim = models.UUIDField(null=True, help_text="Token of the worker that holds it.")
    lease_until = models.DateTimeField(
        null=True, help_text="When the claim lapses, by the database's clock."
    )
    # No constraint: events are archived by range without touching the present.
    last_event = models.ForeignKey(
        "FileEvent",
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )

    objects = IngestionQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["file", "ingester"], name="ingest_ingestion_one"),
            models.CheckConstraint(
                condition=Q(status__in=Status.values), name="ingest_ingestion_status"
            ),
            models.CheckConstraint(
                condition=Q(claim__isnull=True, lease_until__isnull=True)
                | Q(claim__isnull=False, lease_until__isnull=False),
                name="ingest_ingestion_lease",
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.PENDING) | Q(claim__isnull=False),
                name="ingest_ingestion_pending",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["ingester", "status", "id"],
                name="ingest_ingestion_waiting",
                condition=Q(status__in=sorted(CLAIMABLE)),
            ),
            models.Index(
                fields=["ingester", "next_attempt_on"],
                name="ingest_ingestion_due",
                condition=Q(next_attempt_on__isnull=False),
            ),
            models.Index(
                fields=["ingester", "lease_until"],
                name="ingest_ingestion_claimed",
                condition=Q(claim__isnull=False),
            ),
            # Failures by cause are counted from it alone.
            models.Index(
                fields=["ingester", "cause", "changed_on", "file"],
                name="ingest_ingestion_causes",
                condition=Q(status__in=sorted(NEEDS_A_PERSON)),
            ),
            # Lists of what failed by status and cause, and the latest of all. Files that get in
            # cost nothing here.
            models.Index(
                fields=["ingester", "status", "cause", "id"],
                name="ingest_ingestion_listed",
                condition=Q(status__in=sorted(NEEDS_A_PERSON)),
            ),
            models.Index(
                fields=["changed_on"],
                name="ingest_ingestion_troubled",
                condition=Q(status__in=sorted(NEEDS_A_PERSON)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.file_id} at {self.ingester_id}: {self.status}"
