"""What became of files at their targets: the present in one row, the past beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from buffer.models import File, Storage
from ingest.statuses import CLAIMABLE, NEEDS_A_PERSON, RARE, Status


class Ingester(models.Model):
    """A named target: which storage it reads, through which plugin, as it was last started."""

    name = models.CharField(max_length=63, unique=True)
    storage = models.ForeignKey(Storage, on_delete=models.PROTECT)
    plugin = models.CharField(
        max_length=255, blank=True, help_text="Empty until the ingester is first started."
    )
    settings = models.JSONField(
        default=dict, editable=False, help_text="The ingester section as last started."
    )
    created_on = models.DateTimeField(default=timezone.now, editable=False)
    started_on = models.DateTimeField(null=True, editable=False)
    seen_on = models.DateTimeField(null=True, editable=False, help_text="Last heartbeat.")
    # Files up to this id were opened, except what the sweep of older ids still finds.
    watermark = models.BigIntegerField(default=0, editable=False)

    def __str__(self) -> str:
        return self.name


class Breaker(models.Model):
    """Whether an ingester pauses because its target does not answer, for all its workers.

    Written by `ingest.breaker` only. No row: nothing has failed yet.
    """

    ingester = models.OneToOneField(Ingester, primary_key=True, on_delete=models.CASCADE)
    cause = models.CharField(max_length=200, blank=True, help_text="Of the failures in a row.")
    message = models.TextField(blank=True, help_text="The same in the words of the last of them.")
    # What failed in a row with that cause, and where it is to go back to.
    streak = models.JSONField(default=list, editable=False)
    opened_on = models.DateTimeField(null=True, help_text="Paused since; empty: it works.")
    probe_on = models.DateTimeField(
        null=True, help_text="When the next probe is due, by the database's clock."
    )
    prober = models.UUIDField(null=True, help_text="Token of the worker that probes now.")
    failed_probes = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(opened_on__isnull=True, probe_on__isnull=True, prober__isnull=True)
                | Q(opened_on__isnull=False, probe_on__isnull=False),
                name="ingest_breaker_probe",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.ingester_id}: {'works' if self.opened_on is None else 'paused'}"


class Tally(models.Model):
    """How many events an ingester has had, so that nobody has to count its history.

    Written by `ingest.tallies` only.
    """

    ingester = models.OneToOneField(Ingester, primary_key=True, on_delete=models.CASCADE)
    events = models.JSONField(default=dict, help_text="Number of events by status.")
    attempts = models.JSONField(default=dict, help_text="Their durations in buckets.")
    # Start of five minutes, outcomes that were counted in them, those that may need a person.
    recent = models.JSONField(default=list, editable=False)
    # Events up to the first id are counted; the second was the newest at that time, by the
    # database's clock.
    counted_to = models.BigIntegerField(default=0)
    seen_to = models.BigIntegerField(default=0)
    seen_on = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.ingester_id}: events up to {self.counted_to}"


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


class FileEvent(models.Model):
    """One line of history: what happened to one file at one ingester. Never changed.

    Order is by id; clocks may step.
    """

    file = models.ForeignKey(File, on_delete=models.CASCADE, db_index=False)
    ingester = models.ForeignKey(Ingester, on_delete=models.PROTECT, db_index=False)
    status = models.CharField(max_length=8, choices=Status.choices)
    start_time = models.DateTimeField(default=timezone.now)
    duration = models.FloatField(null=True, help_text="Seconds.")
    err_message = models.TextField(blank=True)
    cause = models.CharField(max_length=200, blank=True)
    ingest_ver = models.CharField(max_length=255, blank=True)
    claim = models.UUIDField(null=True)
    worker = models.CharField(max_length=255, blank=True)
    user = models.CharField(max_length=150, blank=True)
    note = models.TextField(blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=Status.values), name="ingest_fileevent_status"
            ),
            # One claim has one outcome.
            models.UniqueConstraint(
                fields=["file", "claim"],
                condition=Q(claim__isnull=False) & ~Q(status=Status.PENDING),
                name="ingest_fileevent_outcome",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["file", "id"], name="ingest_fileevent_file"),
            models.Index(fields=["ingester", "id"], name="ingest_fileevent_ingester"),
            # The others are found soon, wherever one looks.
            models.Index(
                fields=["status", "id"],
                name="ingest_fileevent_rare",
                condition=Q(status__in=sorted(RARE)),
            ),
        ]
        permissions: ClassVar = [("rerun", "Can ask for another ingest attempt")]

    def __str__(self) -> str:
        return f"{self.status} of file {self.file_id} at {self.ingester_id}"


class IgnoredCause(models.Model):
    """A cause of failures at an ingester that a person has decided to live with.

    Written by `ingest.ignoring` only. What was taken back stays, as history.
    """

    ingester = models.ForeignKey(Ingester, on_delete=models.CASCADE)
    cause = models.CharField(max_length=200, blank=True)
    ignored_on = models.DateTimeField(default=timezone.now)
    ignored_by = models.CharField(max_length=150)
    note = models.TextField()
    taken_back_on = models.DateTimeField(null=True)
    taken_back_by = models.CharField(max_length=150, blank=True)
    taken_back_note = models.TextField(blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["ingester", "cause"],
                condition=Q(taken_back_on__isnull=True),
                name="ingest_ignoredcause_standing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.cause} at {self.ingester_id}"


class RerunJob(models.Model):
    """A request to try many files again that is carried out in the background.

    Written by `ingest.rerun_jobs` only.
    """

    ingester = models.ForeignKey(Ingester, on_delete=models.CASCADE)
    described = models.TextField(help_text="Which files were meant, in words.")
    user = models.CharField(max_length=150)
    note = models.TextField(blank=True)
    asked_on = models.DateTimeField(default=timezone.now)
    finished_on = models.DateTimeField(null=True)
    # What was tried after this event is not meant any more.
    upto_event = models.BigIntegerField()
    total = models.PositiveIntegerField(help_text="Files.")
    asked = models.PositiveIntegerField(default=0, help_text="Will be tried again.")
    claimed = models.PositiveIntegerField(default=0, help_text="Held by a worker at that moment.")
    already = models.PositiveIntegerField(default=0, help_text="Waited for it already.")
    unfit = models.PositiveIntegerField(default=0, help_text="Not in the ingester's storage.")
    since = models.PositiveIntegerField(default=0, help_text="Tried or asked for meanwhile.")

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["ingester", "id"],
                name="ingest_rerunjob_open",
                condition=Q(finished_on__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"RERUN of {self.total} files at {self.ingester_id}"

    @property
    def done(self) -> int:
        """Files that are dealt with, in whichever way."""
        return self.asked + self.claimed + self.already + self.unfit + self.since


class RerunChunk(models.Model):
    """Some files of a job that are not dealt with yet."""

    job = models.ForeignKey(RerunJob, on_delete=models.CASCADE)
    files = models.JSONField(help_text="Their ids.")

    def __str__(self) -> str:
        return f"{len(self.files)} files of job {self.job_id}"
