"""The past: what happened to each file at each ingester."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from buffer.models import File
from ingest.models.ingesters import Ingester
from ingest.statuses import RARE, Status


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
