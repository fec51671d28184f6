"""All that has happened to the files of a path, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from buffer import shown
from buffer.models import File
from buffer.names import escape
from ingest.explain_places import Places
from ingest.models import FileEvent

#: Events of one file, if nobody says how many.
SOME: Final = 1000


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened. What is not known, or does not apply, is empty.

    Parameters
    ----------
    at : `~datetime.datetime`
        When it began.
    what : `str`
        A status, or "seen", "stored".
    ingester : `str`
        Where.
    duration : `float` or `None`
        How long it took, in s.
    by : `str`
        Who asked, or which worker did it.
    version : `str`
        Version of what ingested it.
    message, note : `str`
        What was said of it, and why somebody asked for it.
    """

    at: datetime
    what: str
    ingester: str = ""
    duration: float | None = None
    by: str = ""
    version: str = ""
    message: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class FileHistory:
    """The history of one file; `left_out` counts older events that are not given."""

    id: int
    storage: str
    path: str
    happenings: list[Happening] = field(default_factory=list)
    left_out: int = 0


def history(path: str, limit: int = SOME) -> list[FileHistory]:
    """Give the history of every file that a path names.

    Parameters
    ----------
    path : `str`
        As `ingest.explain_places.Places` takes it.
    limit : `int`, optional
        Most events of one file; the newest are given.
    """
    return [_of(file, limit) for file in Places(path).files()]


def _of(file: File, limit: int) -> FileHistory:
    # By id: clocks may step.
    events = FileEvent.objects.filter(file=file).select_related("ingester").order_by("-id")
    newest = list(events[:limit])
    left_out = max(0, events.count() - limit) if len(newest) == limit else 0
    moments = ((file.seen_on, "seen"), (file.stored_on, "stored"))
    begin = [Happening(at, what) for at, what in moments if at is not None]
    return FileHistory(
        file.pk,
        file.storage.name,
        escape(file.path_below(file.storage.root)),
        [*begin, *(_happening(event) for event in reversed(newest))],
        left_out,
    )


def _happening(event: FileEvent) -> Happening:
    return Happening(
        at=event.start_time,
        what=event.status,
        ingester=event.ingester.name,
        duration=event.duration,
        by=shown.message(event.user or event.worker),
        version=shown.message(event.ingest_ver),
        message=shown.message(event.err_message),
        note=shown.message(event.note),
    )
