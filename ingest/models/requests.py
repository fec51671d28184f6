"""What persons asked for: causes to be ignored, and files to be tried again."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from ingest.models.ingesters import Ingester


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
