"""What happens next to a file at an ingester, in words for an operator."""

from __future__ import annotations

from datetime import datetime

from buffer import operator_pauses, shown
from buffer.components import live
from buffer.models import ComponentKind, File
from buffer.operator_pauses import Pausable
from ingest.models import Ingester, Ingestion
from ingest.pauses import shown_pause
from ingest.statuses import DEFAULT_WANTED, Status


def next_step(ingester: Ingester, row: Ingestion | None, file: File) -> str:
    """Say what happens next, and who or what must act for it.

    Parameters
    ----------
    ingester : `Ingester`
        Where.
    row : `Ingestion` or `None`
        The file's state there; None if the ingester has not opened it yet.
    file : `File`
        The file.
    """
    running = live(ComponentKind.INGESTER, subject=ingester.name).exists()
    if row is None:
        if file.stored_on is None:
            return "the ingester opens it when it is stored"
        text = "the ingester opens it with its next cycle"
        return text if running else f"{text}; {_start(ingester)}"
    if row.claim is not None:
        return _held(row)
    if row.next_attempt_on is not None:
        what = (
            "the target is asked whether it got in"
            if row.status == Status.UNKNOWN
            else "it is tried again by itself"
        )
        text = f"{what}, due {_time(row.next_attempt_on)}{_pause(ingester)}"
        return text if running else f"{text}; {_start(ingester)}"
    again = f"manage.py rerun --ingester {ingester.name} --file {file.pk}"
    match Status(row.status):
        case Status.UNTRIED | Status.RERUN:
            text = f"it waits for a worker{_pause(ingester) or _wait(ingester)}"
        case Status.SUCCESS:
            return f"nothing: it is ingested (to ingest it again: {again})"
        case Status.FAILURE:
            text = f"nothing by itself: mend the cause, then {again}"
        case Status.UNKNOWN:
            text = f"nothing by itself: look whether it got in, and if not: {again}"
        case Status.IGNORED:
            text = (
                "nothing by itself: it is not wanted by include_list and exclude_list; change"
                f" them, restart the ingester, then {again}"
            )
        case Status.INVALID:
            text = f"nothing by itself: it is missing or empty; mend it, then {again}"
        case Status.BACKFILL:
            text = f"nothing by itself: it was here before this system; to ingest it: {again}"
        case _:
            text = "nothing by itself"
    wanted = ingester.settings.get("file_status", DEFAULT_WANTED)
    if row.status in wanted:
        if row.status not in DEFAULT_WANTED:
            text += f"; or the next start of the ingester takes it (file_status {row.status})"
        return text if running else f"{text}; {_start(ingester)}"
    if row.status in DEFAULT_WANTED:
        text += f", but this ingester's file_status is {', '.join(wanted)}"
    return text


def _held(row: Ingestion) -> str:
    event = row.last_event
    if row.status == Status.PENDING:
        who = f" by {event.worker}" if event is not None and event.worker else ""
        text = f"an attempt is under way{who}"
    else:
        text = "a worker holds it and is about to try it"
    return f"{text}; given up unless renewed by {_time(row.lease_until)}"


def _pause(ingester: Ingester) -> str:
    held_back = operator_pauses.look(Pausable(ComponentKind.INGESTER, ingester.name))
    if held_back:
        resume = f"manage.py resume --ingester {ingester.name}"
        return f", but the ingester is {held_back}; {resume} lets it go on"
    pause = shown_pause(ingester)
    return "" if pause is None else f", but the ingester is {pause}; {pause.next}"


def _wait(ingester: Ingester) -> str:
    """Say what the ingester itself waits for."""
    runs = live(ComponentKind.INGESTER, subject=ingester.name).exclude(message="")
    message = runs.values_list("message", flat=True).first()
    return "" if message is None else f", but {shown.message(message)}"


def _start(ingester: Ingester) -> str:
    return f"no process of {ingester.name} is running: start it with manage.py runingester"


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "?"
