"""Why a file is where it is: found, refused, stored, and what each ingester does next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from buffer import shown
from buffer.copies import kept_name
from buffer.models import File, Refusal
from buffer.names import INCOMING_DIR, escape
from ingest import explain_buffers
from ingest.checks import checks, first_objection
from ingest.explain_buffers import BufferFacts
from ingest.explain_places import Places
from ingest.explain_suspicions import SuspicionFacts, suspicions_of
from ingest.models import Ingester, Ingestion
from ingest.next_steps import next_step


@dataclass(frozen=True, slots=True)
class IngesterFacts:
    """Where the file stands at one ingester. `status` is empty if it is not known there."""

    ingester: str
    status: str
    since: datetime | None
    attempts: int
    cause: str
    message: str
    next: str


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file that has a row."""

    id: int
    storage: str
    path: str
    on_disk: str
    size_bytes: int
    checksum: str
    added_on: datetime
    stored_on: datetime | None
    stage: str
    ingesters: list[IngesterFacts]
    suspicions: list[SuspicionFacts] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RefusalFacts:
    """A time that the finder would not take it in. `kept` is the copy that there is of it."""

    reason: str
    detail: str
    source: str
    path: str
    first_seen: datetime
    last_seen: datetime
    times_seen: int
    open: bool
    resolved: str
    file_id: int | None
    kept: str


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an ingester would do with a file of this path, if it were stored."""

    ingester: str
    path: str
    decision: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of a path.

    Parameters
    ----------
    path : `str`
        As it was asked for, escaped.
    verdict : `str`
        The answer in one sentence.
    files, refusals, buffers : `list`
        Rows of that path or, without a directory, of that name or checksum; refusals of that path,
        newest first; what the known buffers hold there.
    expectations : `list`
        If there is no such file: what ingesters would do with one.
    """

    path: str
    verdict: str
    files: list[FileFacts] = field(default_factory=list)
    refusals: list[RefusalFacts] = field(default_factory=list)
    buffers: list[BufferFacts] = field(default_factory=list)
    expectations: list[Expectation] = field(default_factory=list)


def explain(path: str) -> Explanation:
    """Say why a file is where it is.

    Parameters
    ----------
    path : `str`
        As `Places` takes it.
    """
    places = Places(path)
    files, refusals = places.files(), places.refusals()
    tracked = {(file.storage_id, file.path): file.stored_on is not None for file in files}
    standing = {(row.source, row.path) for row in refusals if row.resolved_on is None}
    buffers = [
        explain_buffers.look(
            finder,
            relative,
            stored=tracked.get((finder.storage_id, relative)),
            refused=(str(finder.section.source), escape(relative)) in standing,
        )
        for finder in places.finders
        for relative in places.in_buffer(finder)
    ]
    facts = [_file_facts(file) for file in files]
    refusal_facts = [_refusal_facts(row) for row in refusals]
    return Explanation(
        path=escape(path),
        verdict=_verdict(facts, refusal_facts, buffers, known=places.any_known),
        files=facts,
        refusals=refusal_facts,
        buffers=buffers,
        expectations=[] if files else list(_expectations(places)),
    )


def _expectations(places: Places) -> Iterator[Expectation]:
    """Say what the lists of ingesters make of a path that is not tracked."""
    for storage in places.storages:
        for ingester in Ingester.objects.filter(storage=storage).order_by("name"):
            for relative in places.in_storage(storage):
                yield Expectation(ingester.name, escape(relative), _decision(ingester, relative))


def _decision(ingester: Ingester, relative: str) -> str:
    settings = ingester.settings
    include, exclude = settings.get("include_list") or [], settings.get("exclude_list") or []
    # The last check looks at the file itself.
    by_lists = checks(include, exclude)[:-1]
    objection = first_objection(by_lists, relative, relative)
    if objection is None:
        return "it would be tried"
    return f"it would be {objection.status}: {shown.message(objection.message)}"


def _file_facts(file: File) -> FileFacts:
    storage = file.storage
    known = {
        row.ingester_id: row
        for row in Ingestion.objects.filter(file=file).select_related("last_event")
    }
    return FileFacts(
        id=file.pk,
        storage=storage.name,
        path=escape(file.path_below(storage.root)),
        on_disk=_on_disk(file),
        size_bytes=file.size_bytes,
        checksum=f"{file.checksum_algorithm}:{file.checksum}",
        added_on=file.added_on,
        stored_on=file.stored_on,
        stage=_stage(file),
        ingesters=[
            _ingester_facts(ingester, known.get(ingester.pk), file)
            for ingester in Ingester.objects.filter(storage=storage)
            .select_related("breaker")
            .order_by("name")
        ],
        suspicions=suspicions_of(file),
    )


def _on_disk(file: File) -> str:
    try:
        stat = os.lstat(file.path_below(file.storage.root))
    except FileNotFoundError:
        if not os.path.isdir(file.storage.root):
            return "this host does not see the storage area"
        return "missing"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if stat.st_size != file.size_bytes:
        return f"there, but with {stat.st_size} bytes"
    return "there"


def _stage(file: File) -> str:
    if file.stored_on is None:
        return "its take-in was begun and is not complete; the finder finishes it"
    if file.source is not None:
        return f"stored; its arrival in {escape(file.source)} is yet to be released"
    return "stored"


def _ingester_facts(ingester: Ingester, row: Ingestion | None, file: File) -> IngesterFacts:
    step = next_step(ingester, row, file)
    if row is None:
        return IngesterFacts(ingester.name, "", None, 0, "", "", step)
    event = row.last_event
    return IngesterFacts(
        ingester=ingester.name,
        status=row.status,
        since=row.changed_on,
        attempts=row.attempts,
        cause=shown.message(row.cause),
        message=shown.message(event.err_message) if event else "",
        next=step,
    )


def _refusal_facts(row: Refusal) -> RefusalFacts:
    resolved = ""
    if row.resolved_on is not None:
        by = f" by {row.resolved_by}" if row.resolved_by else ""
        resolved = f"{row.resolved_how or 'resolved'}{by}"
    return RefusalFacts(
        reason=row.reason,
        detail=row.detail,
        source=escape(row.source),
        path=row.path,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        times_seen=row.times_seen,
        open=row.resolved_on is None,
        resolved=resolved,
        file_id=row.file_id,
        kept=_kept(row),
    )


def _kept(row: Refusal) -> str:
    """Look for the copy that was kept of an arrival when a crash had cost it its place."""
    path = f"{row.storage.root}/{INCOMING_DIR}/{kept_name(row.checksum)}"
    return escape(path) if row.checksum and os.path.lexists(path) else ""


def _verdict(
    files: list[FileFacts],
    refusals: list[RefusalFacts],
    buffers: list[BufferFacts],
    *,
    known: bool,
) -> str:
    standing = next((row for row in refusals if row.open), None)
    there = next((row for row in buffers if row.exists), None)
    if files:
        file = files[0]
        where = ", ".join(
            f"{row.ingester}: {row.status or 'not opened yet'}" for row in file.ingesters
        )
        text = f"Tracked as file {file.id} ({file.stage}). {where or 'No ingester reads it'}."
        if file.stored_on is not None and file.on_disk == "missing":
            text += " Its bytes are MISSING from storage."
        suspect = next((row for row in file.suspicions if row.standing), None)
        if suspect is not None:
            text += f" An audit found it {suspect.kind}: {suspect.detail}."
        if standing is not None:
            text += f" An arrival of this name is refused: {standing.reason}."
        return text
    if standing is not None:
        return f"Refused: {standing.reason}, {standing.detail}."
    if there is not None:
        return f"In the buffer {there.source}, not taken in: {there.conclusion}."
    if refusals:
        return f"Not tracked. Refused before: {refusals[0].reason}; {refusals[0].resolved}."
    if buffers:
        return "Never seen, and not in a known buffer."
    if not known:
        return "Never seen: no finder and no storage area is known yet."
    return "Never seen, and not below a known buffer or storage area."
