"""Episodes that a person is to be told of, and the messages about them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from buffer.models.components import ComponentKind
from buffer.names import escape


class Condition(models.TextChoices):
    """What an alert is about."""

    # Nothing has arrived, or happened, for longer than expected.
    SILENCE = "SILENCE"
    # The oldest file has been waiting for too long.
    BACKLOG = "BACKLOG"
    # Too many of the files that were tried of late have failed.
    FAILURES = "FAILURES"


class AlertQuerySet(models.QuerySet["Alert"]):
    """Named queries on alerts."""

    def standing(self) -> AlertQuerySet:
        """Alerts of episodes that are not over."""
        return self.filter(cleared_on__isnull=True)


class Alert(models.Model):
    """One episode of something that a person wanted to be told of.

    Written by `buffer.alerts` only.
    """

    condition = models.CharField(max_length=16, choices=Condition.choices)
    kind = models.CharField(max_length=16, choices=ComponentKind.choices)
    subject = models.TextField(help_text="The finder's source directory, or the ingester's name.")
    host = models.CharField(max_length=255, blank=True)
    detail = models.TextField()
    raised_on = models.DateTimeField()
    cleared_on = models.DateTimeField(null=True)

    objects = AlertQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            # Of all processes that look, one raises it.
            models.UniqueConstraint(
                fields=["condition", "kind", "subject", "host"],
                condition=Q(cleared_on__isnull=True),
                name="buffer_alert_standing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.condition} {self.kind} {escape(self.subject)}"


class Notice(models.Model):
    """A message about an alert, by one channel; kept, so that nothing is sent twice."""

    class Channel(models.TextChoices):
        """How it is sent."""

        EMAIL = "email"
        WEBHOOK = "webhook"

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE)
    all_clear = models.BooleanField(help_text="Whether it says that the episode is over.")
    channel = models.CharField(max_length=8, choices=Channel.choices)
    next_try_on = models.DateTimeField(
        null=True, help_text="By the database's clock; empty: sent, or given up."
    )
    tries = models.PositiveIntegerField(default=0)
    sent_on = models.DateTimeField(null=True)
    error = models.TextField(blank=True, help_text="Why the last try failed.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["alert", "all_clear", "channel"], name="buffer_notice_one"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["next_try_on"],
                name="buffer_notice_due",
                condition=Q(next_try_on__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.channel} about alert {self.alert_id}"
