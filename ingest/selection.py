"""Which files of an ingester are meant, as a query."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, TextField, Value, When
from django.db.models.functions import Concat

from buffer.models import File
from ingest.cause_board import failed
from ingest.globs import is_pattern, path_regex
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.statuses import Status


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files of an ingester are meant. Empty fields do not restrict.

    Parameters
    ----------
    ingester : `Ingester`
        Where.
    statuses : collection of `Status`, optional
        Current statuses.
    path : `str`, optional
        A path below the storage root, a directory, or a pattern (see `ingest.globs`).
    since, until : `~datetime.datetime`, optional
        When they got their status.
    error : `str`, optional
        Text within the cause or the message of the last event; case does not matter.
    file_ids, ingestion_ids, event_ids : collection of `int`, optional
        These, as far as the rest applies to them.
    cause : `str`, optional
        This very cause of a failure that stands.
    upto_event : `int`, optional
        Only if nothing has happened to them after this event.
    """

    ingester: Ingester
    statuses: Collection[Status] = ()
    path: str = ""
    since: datetime | None = None
    until: datetime | None = None
    error: str = ""
    file_ids: Collection[int] | None = None
    ingestion_ids: Collection[int] | None = None
    event_ids: Collection[int] | None = None
    cause: str | None = None
    upto_event: int | None = None

    def is_everything(self) -> bool:
        """Tell whether nothing restricts it."""
        ids = (self.file_ids, self.ingestion_ids, self.event_ids, self.cause, self.upto_event)
        others = (self.statuses, self.path, self.since, self.until, self.error)
        return not any(others) and all(some is None for some in ids)

    def ingestions(self) -> QuerySet[Ingestion]:
        """Give the ingestions that are meant."""
        rows: QuerySet[Ingestion] = Ingestion.objects.filter(ingester=self.ingester)
        if self.cause is not None:
            rows = failed(self.ingester.pk).filter(cause=self.cause)
        if self.upto_event is not None:
            rows = rows.filter(last_event_id__lte=self.upto_event)
        if self.statuses:
            rows = rows.filter(status__in=self.statuses)
        if self.path:
            rows = rows.filter(file__in=files_below(self.path, self.ingester.storage_id))
        if self.since is not None:
            rows = rows.filter(changed_on__gte=self.since)
        if self.until is not None:
            rows = rows.filter(changed_on__lte=self.until)
        if self.error:
            rows = rows.filter(
                Q(cause__icontains=self.error) | Q(last_event__err_message__icontains=self.error)
            )
        if self.file_ids is not None:
            rows = rows.filter(file_id__in=self.file_ids)
        if self.ingestion_ids is not None:
            rows = rows.filter(pk__in=self.ingestion_ids)
        if self.event_ids is not None:
            rows = of_events(FileEvent.objects.filter(pk__in=self.event_ids), rows)
        return rows


def files_below(path: str, storage_id: int) -> QuerySet[File]:
    """Give the files of a storage that a path, a directory or a pattern names."""
    files = File.objects.filter(storage_id=storage_id)
    if is_pattern(path):
        whole = Case(
            When(relpath="", then=F("filename")),
            default=Concat("relpath", Value("/"), "filename", output_field=TextField()),
        )
        return files.alias(whole=whole).filter(whole__regex=path_regex(path))
    directory, _, name = path.rpartition("/")
    return files.filter(
        Q(relpath=directory, filename=name) | Q(relpath=path) | Q(relpath__regex=path_regex(path))
    )


def of_events(
    events: QuerySet[FileEvent], rows: QuerySet[Ingestion] | None = None
) -> QuerySet[Ingestion]:
    """Give the ingestions that some events belong to, each once."""
    rows = Ingestion.objects.all() if rows is None else rows
    events = events.order_by()
    return rows.filter(
        Exists(events.filter(file=OuterRef("file"), ingester=OuterRef("ingester"))),
        # Says nothing new, but lets the database begin with the events when they are few.
        file__in=events.values("file"),
    )
