"""What audits found."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from buffer.models.files import File


class FindingKind(models.TextChoices):
    """In what way storage and database disagree about a file."""

    # Recorded as stored, and there is no such file.
    MISSING = "MISSING"
    # Its size or its content is not what was recorded.
    CHANGED = "CHANGED"
    # A symbolic link, directory, FIFO, socket or device has its place.
    NOT_REGULAR = "NOT_REGULAR"
    # It cannot be looked at or read, which proves nothing about its content.
    UNREADABLE = "UNREADABLE"
    # A second row for a file that another row stands for already.
    DUPLICATE = "DUPLICATE"
    # A file in storage that has no row, so that there is nothing to be marked.
    UNTRACKED = "UNTRACKED"


class SuspicionQuerySet(models.QuerySet["Suspicion"]):
    """Named queries on suspicions."""

    def standing(self) -> SuspicionQuerySet:
        """Suspicions that no later audit has cleared."""
        return self.filter(cleared_on__isnull=True)


class Suspicion(models.Model):
    """A mark on a stored file: an audit found that it is not what was recorded.

    Only audits set marks and clear them, be it of one file that somebody asks about; the file
    itself and its row stay as they are.
    """

    file = models.ForeignKey(File, on_delete=models.CASCADE)
    kind = models.CharField(max_length=16, choices=FindingKind.choices)
    detail = models.TextField(blank=True)
    found_on = models.DateTimeField(default=timezone.now)
    found_by = models.CharField(
        max_length=300, blank=True, help_text="Host and process of the first audit that found it."
    )
    seen_on = models.DateTimeField(
        default=timezone.now, help_text="When an audit found it last, unchanged."
    )
    cleared_on = models.DateTimeField(null=True)
    cleared_how = models.TextField(blank=True)
    cleared_by = models.CharField(max_length=300, blank=True)

    objects = SuspicionQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["file"],
                condition=Q(cleared_on__isnull=True),
                name="buffer_suspicion_standing",
            ),
        ]
        permissions: ClassVar = [("verify", "Can have a stored file read and compared")]

    def __str__(self) -> str:
        return f"{self.kind} file {self.file_id}"
