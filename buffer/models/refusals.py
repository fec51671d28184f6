"""Arrivals that were not taken in, and what people decided about them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from buffer.models.files import File, Storage


class RefusalReason(models.TextChoices):
    """Why an arrival was not taken in."""

    # Another file of the same name and other content is stored: a person decides.
    CONFLICT = "CONFLICT"
    # Same name and content as a stored file: the alternative action was applied.
    DUPLICATE = "DUPLICATE"
    # The name cannot be stored safely: not UTF-8, control characters, reserved, too long.
    BAD_NAME = "BAD_NAME"
    # A symbolic link, FIFO, socket or device.
    NOT_REGULAR = "NOT_REGULAR"
    # A tracked file in storage has other content than was recorded, or a log says that it changed.
    CHANGED_IN_STORAGE = "CHANGED_IN_STORAGE"
    # It was there and is gone before it could be taken in.
    VANISHED = "VANISHED"
    # It may not be opened or read.
    UNREADABLE = "UNREADABLE"
    # The storage area has no room.
    STORAGE_FULL = "STORAGE_FULL"
    # The medium reported an error.
    EIO = "EIO"


#: Reasons that time may heal: tried again with growing pauses. The others wait for a change of the
#: arrival or of the stored file, or for a person.
TRANSIENT_REASONS = frozenset(
    {
        RefusalReason.VANISHED,
        RefusalReason.UNREADABLE,
        RefusalReason.STORAGE_FULL,
        RefusalReason.EIO,
    }
)


class RefusalQuerySet(models.QuerySet["Refusal"]):
    """Named queries on refusals."""

    def unresolved(self) -> RefusalQuerySet:
        """Refusals that still stand."""
        return self.filter(resolved_on__isnull=True)


class Refusal(models.Model):
    """An arrival that the finder would not take in, and why."""

    storage = models.ForeignKey(Storage, on_delete=models.PROTECT)
    source = models.TextField(help_text="The buffer that it lies in.")
    path = models.TextField(help_text="Path below the source, escaped.")
    key = models.CharField(
        max_length=32, editable=False, help_text="Digest of the source and the exact path."
    )
    reason = models.CharField(max_length=24, choices=RefusalReason.choices)
    detail = models.TextField(blank=True)
    size_bytes = models.BigIntegerField(null=True)
    mtime = models.DateTimeField(null=True)
    identity = models.TextField(
        blank=True, help_text="Device, inode, size, mtime and ctime of the arrival."
    )
    checksum = models.TextField(blank=True)
    file = models.ForeignKey(
        File, null=True, on_delete=models.SET_NULL, help_text="The stored file it collides with."
    )
    first_seen = models.DateTimeField(default=timezone.now)
    last_seen = models.DateTimeField(default=timezone.now)
    times_seen = models.PositiveIntegerField(default=1)
    next_attempt_on = models.DateTimeField(null=True)
    resolved_on = models.DateTimeField(null=True)
    resolved_how = models.TextField(blank=True)
    resolved_by = models.CharField(max_length=150, blank=True)

    objects = RefusalQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["key"],
                condition=Q(resolved_on__isnull=True),
                name="buffer_refusal_open",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["-last_seen"], name="buffer_refusal_recent"),
            models.Index(
                fields=["reason", "id"],
                name="buffer_refusal_standing",
                condition=Q(resolved_on__isnull=True),
            ),
        ]
        permissions: ClassVar = [("resolve_conflict", "Can decide what becomes of a conflict")]

    def __str__(self) -> str:
        return f"{self.reason} {self.path}"


class Choice(models.TextChoices):
    """What a person decided about an arrival that collides with a stored file."""

    # The arrival is set aside, in the finder's `duplicates`; it is never deleted.
    KEEP_STORED = "KEEP_STORED", "Keep the stored file"
    # The arrival is stored too, under another name.
    KEEP_BOTH = "KEEP_BOTH", "Keep both"
    # Nothing for now.
    LATER = "LATER", "Later"


class DecisionQuerySet(models.QuerySet["Decision"]):
    """Named queries on decisions."""

    def standing(self) -> DecisionQuerySet:
        """Decisions that no finder has carried out or found void."""
        return self.filter(done_on__isnull=True)


class Decision(models.Model):
    """What a person decided about a conflict. The finder carries it out (`buffer.collisions`)."""

    refusal = models.ForeignKey(Refusal, on_delete=models.CASCADE)
    choice = models.CharField(max_length=16, choices=Choice.choices)
    # What was decided about; if either is another by then, the decision is void.
    checksum = models.TextField(help_text="Of the arrival.")
    file = models.ForeignKey(
        File, null=True, on_delete=models.SET_NULL, help_text="The stored file; none: untracked."
    )
    new_name = models.TextField(blank=True, help_text="For KEEP_BOTH.")
    user = models.CharField(max_length=150)
    note = models.TextField(blank=True)
    decided_on = models.DateTimeField(default=timezone.now)
    # Written before anything is moved, so that a crash leaves no doubt where it is.
    target = models.TextField(blank=True, editable=False)
    done_on = models.DateTimeField(null=True)
    void = models.BooleanField(default=False)
    outcome = models.TextField(blank=True)

    objects = DecisionQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["refusal"],
                condition=Q(done_on__isnull=True),
                name="buffer_decision_standing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.choice} for refusal {self.refusal_id}"
