"""What needs a person now, each with the page that answers it.

Everything here is read off an overview, but for the failures by cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.http import urlencode

from buffer import shown
from buffer.counting import counted
from buffer.models import ComponentKind, RefusalReason
from buffer.pause_pages import pausing_url
from ingest.cause_board import beside_ignored, failed, some_causes
from ingest.cause_pages import cause_url
from ingest.models import IgnoredCause, Ingestion
from ingest.states import Overview
from ingest.statuses import NEEDS_A_PERSON, Status

#: So many causes are shown; if there are more, the most frequent among so many of the latest
#: failures.
CAUSES: Final = 12
LOOKED_AT: Final = 10_000
#: With less room than this share of it left, a disk is nearly full.
NEARLY_FULL: Final = 0.05


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
        *_of_alerts(state),
        *_of_ingesters(state),
        *_of_operator_pauses(state),
        *_of_components(state),
        *_of_disks(state),
        *_of_kept_copies(state),
        *_of_suspects(state),
        *_of_refusals(state),
        *causes(state),
    ]


def _of_alerts(state: Overview) -> Iterator[Need]:
    for alert in state.alerts:
        text = f"{alert.kind} {alert.subject}{_at(alert.host)}: {alert.condition.lower()}"
        link = _page("buffer_alert", alert.id)
        yield Need("alert", text, link, "See the alert", since=alert.since, detail=alert.detail)


def _of_operator_pauses(state: Overview) -> Iterator[Need]:
    for pause in state.operator_pauses:
        yield Need(
            "paused",
            f"{pause.kind} {pause.subject}{_at(pause.host)}: a person has paused it",
            pausing_url(pause.kind, pause.subject, pause.host),
            "Resume it there",
            since=pause.since,
            detail=pause.text,
        )


def _of_disks(state: Overview) -> Iterator[Need]:
    for row in state.components:
        for area, free in row.free_bytes.items():
            whole = row.total_bytes.get(area)
            if row.live and free is not None and whole and free < NEARLY_FULL * whole:
                yield Need(
                    "full",
                    f"the {area} of {row.kind} {row.subject} on {row.host} is nearly full:"
                    f" {filesizeformat(free)} of {filesizeformat(whole)} are left",
                    _page("buffer_component", row.id),
                    "See the run",
                )


def _of_ingesters(state: Overview) -> Iterator[Need]:
    # What the commands say is told of them; workers say more.
    told = {row.message for row in state.components}
    for one in state.ingesters:
        for message in one.messages:
            if message not in told:
                text, link = f"{one.name}: its workers wait", _page("ingest_ingester", one.id)
                yield Need("waits", text, link, "See the ingester", detail=message)
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
    paused |= {one.text for one in state.operator_pauses}
    for row in state.components:
        link = _page("buffer_component", row.id)
        name = f"{row.kind} {row.subject} on {row.host} ({row.pid})"
        if not row.live:
            text = f"{name}: fell silent without having stopped"
            yield Need("silent", text, link, "See the run", since=row.seen_on)
        elif row.message and row.message not in paused:
            yield Need("waits", name, link, "See the run", detail=row.message)


def _of_kept_copies(state: Overview) -> Iterator[Need]:
    for row in state.components:
        if row.kept:
            yield Need(
                "lost",
                f"a crash cost arrivals of {row.kind} {row.subject} on {row.host} their places:"
                " copies are kept in the storage area",
                _list("buffer_refusal", reason__exact=RefusalReason.CONFLICT),
                "See the refusals",
                len(row.kept),
                detail="\n".join(row.kept),
            )


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
        link, answer = (
            (reverse("buffer:conflicts"), "Decide")
            if refusal.reason == RefusalReason.CONFLICT
            else (
                _list("buffer_refusal", state="open", reason__exact=refusal.reason),
                "See the refusals",
            )
        )
        yield Need(refusal.reason, text, link, answer, refusal.count, refusal.oldest)


def causes(state: Overview) -> list[Need]:
    """Group what failed by its cause, the most frequent first as far as they are counted.

    Ignored causes call for nobody.

    Parameters
    ----------
    state : `Overview`
        For the ingesters.
    """
    groups = [
        (one.id, cause) for one in state.ingesters for cause in some_causes(one.id, CAUSES + 1)
    ]
    shown_ = groups if len(groups) <= CAUSES else _most_frequent(state, groups)
    names = {one.id: one.name for one in state.ingesters}
    found = [
        need
        for ingester_id, cause in shown_
        if (need := _of_cause(names[ingester_id], ingester_id, cause)) is not None
    ]
    found.sort(key=lambda need: -(need.count or 0))
    if len(groups) > CAUSES:
        text, link = "files of other causes failed, too", reverse("ingest:all_causes")
        found.append(Need(Status.FAILURE, text, link, "See all"))
    return found


def _of_cause(name: str, ingester_id: int, cause: str) -> Need | None:
    rows = failed(ingester_id).filter(cause=cause)
    latest = rows.order_by("-changed_on").values_list("changed_on", flat=True).first()
    with_it = Ingestion.objects.filter(ingester=ingester_id, cause=cause)
    # The status before the others: SQLite may go through all that failed otherwise.
    statuses = [
        status for status in NEEDS_A_PERSON if with_it.filter(status=status).troubled().exists()
    ]
    if latest is None or not statuses:
        return None  # None of them stands there any more.
    return Need(
        # Of several the one that is least known about: the last by its name.
        max(statuses),
        f"{name}: {shown.message(cause) or 'no reason was given'}",
        cause_url(ingester_id, cause),
        "See the cause",
        counted(rows),
        latest,
    )


def _most_frequent(state: Overview, some: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Choose the causes to show where there are many, at any number of failures.

    Looked at are the latest; and if causes are ignored, which all of these may have, some of the
    others by themselves. They are counted here: to group some by their ids, PostgreSQL reads all
    files. What is left of the places goes to `some`.
    """
    ignored = set(
        IgnoredCause.objects.filter(taken_back_on__isnull=True).values_list("ingester_id", "cause")
    )
    known = [one.id for one in state.ingesters]
    samples = [Ingestion.objects.troubled().order_by("-changed_on")[:LOOKED_AT]]
    for ingester_id in known if ignored else ():
        samples += [rows.order_by("cause")[:LOOKED_AT] for rows in beside_ignored(ingester_id)]
    seen: dict[int, tuple[int, str]] = {}
    for rows in samples:
        told = rows.values_list("pk", "ingester_id", "cause")
        seen |= {pk: (ingester_id, cause) for pk, ingester_id, cause in told}
    # A new ingester may have come since the state was looked at.
    groups = Counter(one for one in seen.values() if one[0] in known and one not in ignored)
    most = sorted(groups, key=lambda group: (-groups[group], group))
    return list(dict.fromkeys([*most, *some]))[:CAUSES]


def _at(host: str) -> str:
    return f" on {host}" if host else ""


def _list(view: str, **query: Any) -> str:
    return f"{reverse(f'admin:{view}_changelist')}?{urlencode(query)}"


def _page(view: str, key: int) -> str:
    return reverse(f"admin:{view}_change", args=[key])
