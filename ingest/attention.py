"""What needs a person now, each with the page that answers it.

Everything here is read off an overview, but for the failures by cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Count, Max
from django.urls import reverse
from django.utils.http import urlencode

from buffer import shown
from buffer.counting import counted, first_of
from buffer.models import ComponentKind, RefusalReason
from ingest.models import Ingestion
from ingest.overview import Overview
from ingest.statuses import Status

#: Among so many of the latest failures causes are looked for, and so many of them are shown.
LOOKED_AT: Final = 10_000
CAUSES: Final = 12


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a person has to look at.

    Parameters
    ----------
    word : `str`
        What is the matter, in one word, as `buffer.admin_base.badge` shows it.
    text : `str`
        The same in a sentence.
    link, answer : `str`
        Where to go, and what is to be had there.
    count : `int` or `None`
        How many files it is about.
    since : `~datetime.datetime` or `None`
        Since when, or when last.
    detail : `str`
        What was said of it.
    """

    word: str
    text: str
    link: str
    answer: str
    count: int | None = None
    since: datetime | None = None
    detail: str = ""


def needs(state: Overview) -> list[Need]:
    """List what needs a person, the worst first.

    Parameters
    ----------
    state : `Overview`
        What is to be judged.
    """
    return [
        *_of_ingesters(state),
        *_of_components(state),
        *_of_suspects(state),
        *_of_refusals(state),
        *causes(state),
    ]


def _of_ingesters(state: Overview) -> Iterator[Need]:
    for one in state.ingesters:
        if one.pause is not None:
            yield Need(
                "paused",
                f"{one.name}: the target does not answer",
                _page("ingest_ingester", one.id),
                "See the ingester",
                since=one.pause.since,
                detail=f"{one.pause}; {one.pause.next}",
            )
        if not one.live and one.waiting:
            yield Need(
                "stopped",
                f"{one.name}: nobody works for it, and files wait",
                _list("buffer_component", kind__exact=ComponentKind.INGESTER, q=one.name),
                "See its runs",
                count=one.waiting,
                since=one.oldest_waiting,
            )


def _of_components(state: Overview) -> Iterator[Need]:
    paused = {str(one.pause) for one in state.ingesters if one.pause is not None}
    for row in state.components:
        link = _page("buffer_component", row.id)
        name = f"{row.kind} {row.subject} on {row.host} ({row.pid})"
        if not row.live:
            text = f"{name}: fell silent without having stopped"
            yield Need("silent", text, link, "See the run", since=row.seen_on)
        elif row.message and row.message not in paused:
            yield Need("waits", name, link, "See the run", detail=row.message)


def _of_suspects(state: Overview) -> Iterator[Need]:
    for suspect in state.suspects:
        link = _list("buffer_file", suspect=suspect.kind)
        text = "stored files are not as they were recorded"
        yield Need(suspect.kind, text, link, "See the files", suspect.count, suspect.oldest)


_REFUSED: Final = {
    RefusalReason.CONFLICT: "another file of the same name is stored: decide which to keep",
    RefusalReason.STORAGE_FULL: "the storage area has no room: make some",
    RefusalReason.CHANGED_IN_STORAGE: "a stored file is not what was recorded",
    RefusalReason.BAD_NAME: "the name cannot be stored: rename it where it comes from",
    RefusalReason.NOT_REGULAR: "a link, FIFO, socket or device: take it away",
    RefusalReason.UNREADABLE: "it may not be read: give the finder the right",
    RefusalReason.EIO: "the medium reported an error",
    RefusalReason.VANISHED: "it was there and is gone",
}


def _of_refusals(state: Overview) -> Iterator[Need]:
    for refusal in state.refusals:
        text = _REFUSED.get(RefusalReason(refusal.reason), "not taken in")
        link = _list("buffer_refusal", state="open", reason__exact=refusal.reason)
        yield Need(refusal.reason, text, link, "See the refusals", refusal.count, refusal.oldest)


def causes(state: Overview) -> list[Need]:
    """Group what failed by its cause, the most frequent first.

    Parameters
    ----------
    state : `Overview`
        For the ingesters' names and totals.
    """
    names = {one.id: one.name for one in state.ingesters}
    groups = (
        first_of(Ingestion.objects.troubled().order_by("-changed_on"), LOOKED_AT)
        .values_list("ingester_id", "status", "cause")
        .annotate(n=Count("pk"), latest=Max("changed_on"))
        .order_by("-n")
    )
    found = [
        Need(
            status,
            f"{names.get(ingester_id, '')}: {shown.message(cause) or 'no reason was given'}",
            _list(
                "ingest_ingestion",
                ingester__id__exact=ingester_id,
                status__exact=status,
                cause=cause,
            ),
            "See the files",
            counted(
                Ingestion.objects.troubled().filter(
                    ingester=ingester_id, status=status, cause=cause
                )
            ),
            latest,
        )
        for ingester_id, status, cause, _, latest in groups[:CAUSES]
    ]
    return sorted(found, key=lambda need: -(need.count or 0)) + _others(state, found)


def _others(state: Overview, found: list[Need]) -> list[Need]:
    """Say that there are more causes than are shown."""
    shown_ = sum(need.count or 0 for need in found)
    failed = sum(one.failed for one in state.ingesters)
    if failed <= shown_ or len(found) < CAUSES:
        return []
    link = _list("ingest_ingestion", status__in=",".join((Status.FAILURE, Status.UNKNOWN)))
    return [Need(Status.FAILURE, "files of other causes failed, too", link, "See all")]


def _list(view: str, **query: Any) -> str:
    return f"{reverse(f'admin:{view}_changelist')}?{urlencode(query)}"


def _page(view: str, key: int) -> str:
    return reverse(f"admin:{view}_change", args=[key])
