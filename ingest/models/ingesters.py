"""Targets, and what is kept of each: whether it answers, and how many events it has had."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from buffer.models import Storage


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
