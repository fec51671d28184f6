"""The way of one file over everything: arrival, take-in, audits, and each step at each ingester."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django.db.models import QuerySet

from buffer.models import File, Refusal, Suspicion
from buffer.names import escape
from ingest.models import FileEvent

#: Neighbours in a directory, to each side; and names that are looked at for the same exposure.
BESIDE: Final = 3
_LOOKED_AT: Final = 250
_SOME: Final = 20

# The last long number of a name, and all before it.
_EXPOSURE: Final = re.compile(r".*\d{5,}(?!\d)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened to a file.

    Parameters
    ----------
    at : `~datetime.datetime`
        When.
    word : `str`
        What: a status, or a word of the same kind.
    where : `str`
        Name of the ingester; empty in the buffer and the storage.
    event : `FileEvent` or `None`
        The event, with all that it says.
    text : `str`
        What there is to say without one.
    by : `str`
        Who did it.
    """

    at: datetime
    word: str
    where: str = ""
    event: FileEvent | None = None
    text: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """What happened to a file, newest first; `more` tells that older events are left out."""

    moments: list[Moment]
    more: bool


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Files near a file.

    Parameters
    ----------
    beside : `list` [`File`]
        The next ones in its directory, by name.
    exposure : `str`
        What names of its exposure begin with; empty if its name has no number that could be one.
    same : `list` [`File`]
        Others in its directory that begin so.
    more : `bool`
        There may be more of them.
    """

    beside: list[File] = field(default_factory=list)
    exposure: str = ""
    same: list[File] = field(default_factory=list)
    more: bool = False


def story_of(file: File, most: int) -> Story:
    """Tell the way of a file.

    Parameters
    ----------
    file : `File`
        Which.
    most : `int`
        How many events at ingesters, the newest.
    """
    events = list(
        FileEvent.objects.filter(file=file).select_related("ingester").order_by("-id")[: most + 1]
    )
    more = len(events) > most
    moments = [*_at_ingesters(events[:most]), *_in_the_buffer(file), *_of_audits(file)]
    # The sort keeps the order of events that share a time.
    return Story(sorted(moments, key=lambda moment: moment.at, reverse=True), more)


def _at_ingesters(events: list[FileEvent]) -> Iterator[Moment]:
    """Give events, newest first; their order is that of their ids, whatever the clocks said."""
    times: list[datetime] = []
    for event in reversed(events):
        times.append(max(event.start_time, times[-1]) if times else event.start_time)
    for event, at in zip(events, reversed(times), strict=True):
        yield Moment(at, event.status, event.ingester.name, event)


def _in_the_buffer(file: File) -> Iterator[Moment]:
    if file.stored_on is not None:
        yield Moment(file.stored_on, "stored", text="its bytes are safe in storage")
    how = "read and recorded" if file.seen_on is not None else "recorded where it was"
    algorithm = f"{file.size_bytes} bytes, {file.checksum_algorithm} {file.checksum}"
    yield Moment(file.added_on, "recorded", text=f"{how}: {algorithm}")
    if file.seen_on is not None:
        yield Moment(file.seen_on, "arrived", text="first read in the buffer")
    for refusal in Refusal.objects.filter(file=file).order_by("-id")[:_SOME]:
        text = f"{refusal.path} was not taken in: {refusal.detail}"
        yield Moment(refusal.first_seen, refusal.reason, text=text)
        if refusal.resolved_on is not None:
            text = f"{refusal.path}: {refusal.resolved_how}"
            yield Moment(refusal.resolved_on, "resolved", text=text, by=refusal.resolved_by)


def _of_audits(file: File) -> Iterator[Moment]:
    for mark in Suspicion.objects.filter(file=file).order_by("-id")[:_SOME]:
        yield Moment(mark.found_on, mark.kind, text=mark.detail, by=mark.found_by)
        if mark.cleared_on is not None:
            yield Moment(mark.cleared_on, "cleared", text=mark.cleared_how, by=mark.cleared_by)


def exposure_of(filename: str) -> str:
    """Give what the names of all files of an exposure begin with, as far as a name tells.

    That is everything up to the end of its last number of five digits or more: ``MC_O_20261123_
    000123`` of ``MC_O_20261123_000123_R22_S11.fits``. Empty if there is no such number.
    """
    found = _EXPOSURE.match(filename)
    return found[0] if found else ""


def neighbours_of(file: File) -> Neighbours:
    """Look along the names of a file's directory, to both sides: two short walks in an index."""
    there = File.objects.filter(storage=file.storage_id, relpath=file.relpath)
    before = _walk(there.filter(filename__lt=file.filename).order_by("-filename"))
    after = _walk(there.filter(filename__gt=file.filename).order_by("filename"))
    beside = [*reversed(before[:BESIDE]), *after[:BESIDE]]
    exposure = exposure_of(file.filename)
    if not exposure:
        return Neighbours(beside)
    same = [one for one in (*reversed(before), *after) if one.filename.startswith(exposure)]
    ends = [side[-1] for side in (before, after) if len(side) == _LOOKED_AT]
    more = any(end.filename.startswith(exposure) for end in ends)
    return Neighbours(beside, escape(exposure), same, more)


def _walk(rows: QuerySet[File]) -> list[File]:
    return list(rows.only("relpath", "filename")[:_LOOKED_AT])
