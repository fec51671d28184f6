"""Storage areas, and the files in them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
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

    def among(self, storage_id: int) -> FileQuerySet:
        """Those of a storage area, where what else is asked for says which few to look at.

        A sum has no index. By that on places, all files of the area would be gone through: always
        by SQLite, and by PostgreSQL of an area that it believes to be small.
        """
        return self.alias(area=F("storage") + 0).filter(area=storage_id)


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
            # Checksums have one too, on PostgreSQL, which only its migration can name.
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
