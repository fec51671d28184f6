"""Who is at work, and whom a person has told to pause."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from buffer.names import escape


class ComponentKind(models.TextChoices):
    """What a process of ours does."""

    FINDER = "finder"
    INGESTER = "ingester"
    BACKFILL = "backfill"
    # Compares a storage area with the database.
    AUDIT = "audit"
    # A set of workers on some host, started by runworkers.
    WORKERS = "workers"
    # One worker while it has a session of work.
    SESSION = "session"


class Component(models.Model):
    """One run of a command or one working session of a worker, and when it was last heard of."""

    kind = models.CharField(max_length=16, choices=ComponentKind.choices)
    subject = models.TextField(
        help_text="What it works for: a source directory, an ingester or a storage area."
    )
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=64, blank=True)
    workers = models.PositiveIntegerField(default=0)
    settings = models.JSONField(
        default=dict, editable=False, help_text="The configuration that this run works by."
    )
    started_on = models.DateTimeField(default=timezone.now)
    seen_on = models.DateTimeField(default=timezone.now)
    stopped_on = models.DateTimeField(null=True)
    message = models.TextField(blank=True, help_text="What it waits for, if anything.")
    counters = models.JSONField(default=dict)
    measures = models.JSONField(
        default=dict, editable=False, help_text="What its worker measured, for monitoring."
    )
    canary_s = models.FloatField(
        null=True,
        editable=False,
        help_text="For how long its idle workers have left wake-ups waiting; seconds.",
    )
    run = models.ForeignKey(
        "self",
        null=True,
        on_delete=models.CASCADE,
        help_text="The run that a session works for.",
    )

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["kind", "seen_on"],
                name="buffer_component_live",
                condition=Q(stopped_on__isnull=True),
            ),
        ]
        permissions: ClassVar = [("pause", "Can pause and resume finders and ingesters")]

    def __str__(self) -> str:
        return f"{self.kind} {escape(self.subject)} on {self.host} ({self.pid})"


class OperatorPauseQuerySet(models.QuerySet["OperatorPause"]):
    """Named queries on pauses by a person."""

    def standing(self) -> OperatorPauseQuerySet:
        """Pauses that nobody has ended."""
        return self.filter(resumed_on__isnull=True)


class OperatorPause(models.Model):
    """A person has told a finder or an ingester to do nothing, until somebody resumes it.

    Written by `buffer.operator_pauses` only.
    """

    kind = models.CharField(max_length=16, choices=ComponentKind.choices)
    subject = models.TextField(help_text="The finder's source directory, or the ingester's name.")
    host = models.CharField(
        max_length=255, blank=True, help_text="The finder's; an ingester is paused on all hosts."
    )
    paused_on = models.DateTimeField()
    paused_by = models.CharField(max_length=150)
    note = models.TextField(blank=True)
    resumed_on = models.DateTimeField(null=True)
    resumed_by = models.CharField(max_length=150, blank=True)
    resume_note = models.TextField(blank=True)

    objects = OperatorPauseQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["kind", "subject", "host"],
                condition=Q(resumed_on__isnull=True),
                name="buffer_operatorpause_standing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {escape(self.subject)}"
