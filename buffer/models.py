"""What is known of files: where they are stored, what was refused, and who is at work.

Nothing here knows of targets; see `ingest.models` for what became of a file at each of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from buffer.names import escape


class Storage(models.Model):
    """A named storage area: where files live after they were taken in."""

    name = models.CharField(max_length=63, unique=True)
    root = models.TextField(help_text="Absolute path of the storage area's top directory.")
    marker = models.UUIDField(
        default=uuid.uuid4,
        editable=False,
        help_text="Content of the marker file at the root; its absence means 'not mounted'.",
    )
    marked_on = models.DateTimeField(
        null=True, editable=False, help_text="When the marker file was written."
    )
    created_on = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name


class FileQuerySet(models.QuerySet["File"]):
    """Named queries on files."""

    def stored(self) -> FileQuerySet:
        """Files whose bytes are in storage, durable and complete."""
        return self.filter(stored_on__isnull=False)

    def intents(self) -> FileQuerySet:
        """Files whose take-in was begun and is not complete."""
        return self.filter(stored_on__isnull=True)

    def unreleased(self) -> FileQuerySet:
        """Files whose arrival may still lie in the buffer beside the stored copy."""
        return self.filter(source__isnull=False)

    def paths(self, ids: Sequence[int]) -> dict[int, str]:
        """Paths of files relative to the storage root, by id; without making models of them."""
        rows = self.filter(pk__in=ids).values_list("pk", "relpath", "filename")
        return {pk: _path(relpath, filename) for pk, relpath, filename in rows}


def _path(relpath: str, filename: str) -> str:
    return f"{relpath}/{filename}" if relpath else filename


class File(models.Model):
    """A file in a storage area, or on its way there."""

    storage = models.ForeignKey(Storage, on_delete=models.PROTECT, db_index=False)
    relpath = models.TextField(
        blank=True, help_text="Directory below the storage root, '' for the root itself."
    )
    filename = models.TextField()
    checksum = models.TextField(help_text="Hexadecimal digest of the content.")
    checksum_algorithm = models.CharField(max_length=16)
    size_bytes = models.BigIntegerField(help_text="Size in bytes.")
    added_on = models.DateTimeField(default=timezone.now)
    seen_on = models.DateTimeField(null=True, help_text="When it was first seen in the buffer.")
    stored_on = models.DateTimeField(
        null=True, help_text="When its bytes were safe in storage; null while it is taken in."
    )
    # Where it came from, until the source is released. Null rather than '' because an index on
    # "is not null" is the only partial index that SQLite uses with bound parameters.
    source = models.TextField(null=True, help_text="The buffer that it came from, until released.")
    source_identity = models.TextField(
        null=True, help_text="Device, inode, size and mtime of the source, until released."
    )

    objects = FileQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["storage", "relpath", "filename"], name="buffer_file_place"
            ),
            models.CheckConstraint(condition=Q(size_bytes__gte=0), name="buffer_file_size"),
            models.CheckConstraint(condition=~Q(filename=""), name="buffer_file_named"),
            models.CheckConstraint(condition=~Q(checksum=""), name="buffer_file_hashed"),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["filename", "size_bytes", "checksum_algorithm"],
                name="buffer_file_same",
            ),
            # Operators have a checksum in hand, and ask whose it is.
            models.Index(fields=["checksum"], name="buffer_file_checksum"),
            models.Index(fields=["size_bytes"], name="buffer_file_size_bytes"),
            models.Index(
                fields=["storage", "id"],
                name="buffer_file_intents",
                condition=Q(stored_on__isnull=True),
            ),
            models.Index(
                fields=["storage", "id"],
                name="buffer_file_unreleased",
                condition=Q(source__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return escape(self.path)

    @property
    def path(self) -> str:
        """Path relative to the storage root."""
        return _path(self.relpath, self.filename)

    def path_below(self, root: str | Path) -> str:
        """Absolute path below `root`, the storage area as it is mounted here."""
        return f"{root}/{self.path}"


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
