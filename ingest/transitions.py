"""Every change of a file's status at an ingester: the only module that writes statuses.

=========  =============  ==========================================  =========================
status     set by         meaning                                     leads to
=========  =============  ==========================================  =========================
UNTRIED    ingester       known, not tried                            PENDING, IGNORED, INVALID
PENDING    claim          an attempt is due or under way              SUCCESS, FAILURE, UNKNOWN;
                                                                      back if it never started
SUCCESS    attempt        ingested                                    RERUN
FAILURE    attempt        refused by the target                       RERUN, PENDING (retry)
UNKNOWN    sweep, host    nobody saw the outcome                      RERUN, SUCCESS, PENDING
IGNORED    checks         not wanted by the lists                     RERUN
INVALID    checks         missing or empty                            RERUN
RERUN      operator       try again                                   PENDING, IGNORED, INVALID
BACKFILL   backfill       was here before us                          RERUN
=========  =============  ==========================================  =========================

A transition is one filtered UPDATE ("if the row still has the status and the claim that I think
it has") plus one INSERT of the events of those rows that did change, in one transaction. So two
workers never both win, and the status of a row is always that of its newest event.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from buffer import dialect
from buffer import steps as protocol
from ingest.statuses import Status

_INGESTION = "ingest_ingestion"
_EVENT = "ingest_fileevent"
_STEP_COLUMNS = {
    "n": "id",
    "ingestion": "id",
    "was": "text",
    "held": "uuid",
    "status": "text",
    "cause": "text",
    "attempts": "id",
    "due_in_s": "number",
    "keep": "flag",
}
_EVENT_COLUMNS = {
    "id": "id",
    "file_id": "id",
    "ingester_id": "id",
    "status": "text",
    "start_time": "time",
    "duration": "number",
    "err_message": "text",
    "cause": "text",
    "ingest_ver": "text",
    "claim": "uuid",
    "worker": "text",
    "user": "text",
    "note": "text",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One intended transition of one ingestion, and what its event is to say."""

    ingestion_id: int
    file_id: int
    was: Status
    held: uuid.UUID | None
    status: Status
    attempts: int
    cause: str = ""
    #: By the clock of this host; written by the database's, which decides when it is due.
    next_attempt_on: datetime | None = None
    #: Keep the claim; otherwise it is given up with this step.
    keep: bool = False
    message: str = ""
    #: In UTC.
    start_time: datetime = field(default_factory=timezone.now)
    duration: float | None = None
    version: str = ""
    worker: str = ""
    user: str = ""
    note: str = ""


def apply(ingester_id: int, steps: Sequence[Step], *, lapsed: bool = False) -> list[Step]:
    """Make the transitions that are still possible, and record their events.

    Parameters
    ----------
    ingester_id : `int`
        Whose ingestions they are.
    steps : `~collections.abc.Sequence` [`Step`]
        At most one for each ingestion.
    lapsed : `bool`, optional
        Only where the lease has run out by the database's clock.

    Returns
    -------
    done : `list` [`Step`]
        Those that took place. A step that is missing lost a race: the row no longer had the status
        or the claim that it expected, and nothing of it was written.
    """
    if not steps:
        return []
    rows = [
        {
            "n": n,
            "ingestion": step.ingestion_id,
            "was": step.was,
            "held": step.held.hex if step.held else None,
            "status": step.status,
            "cause": step.cause,
            "attempts": step.attempts,
            "due_in_s": _seconds_until(step.next_attempt_on),
            "keep": step.keep,
        }
        for n, step in enumerate(steps, start=1)
    ]
    sql = f"""
        UPDATE {_INGESTION} SET
            status = v.status,
            cause = v.cause,
            attempts = v.attempts,
            next_attempt_on = {dialect.now_plus_column("v.due_in_s")},
            changed_on = {dialect.now()},
            claim = CASE WHEN v.keep THEN {_INGESTION}.claim END,
            lease_until = CASE WHEN v.keep THEN {_INGESTION}.lease_until END,
            last_event_id = {dialect.next_id(_EVENT, "v.n")}
        FROM {dialect.rows_from_json(_STEP_COLUMNS, few=True)}
        WHERE {_INGESTION}.id = v.ingestion
          AND {_INGESTION}.ingester_id = %s
          AND {_INGESTION}.status = v.was
          AND {dialect.same(f"{_INGESTION}.claim", "v.held")}
          {f"AND {_INGESTION}.lease_until < {dialect.now()}" if lapsed else ""}
        RETURNING {_INGESTION}.id, {_INGESTION}.last_event_id"""
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        cursor.execute(sql, [json.dumps(rows), ingester_id])
        event_of = dict(cursor.fetchall())
        protocol.reached("status changed")
        done = [step for step in steps if step.ingestion_id in event_of]
        events = [_event(ingester_id, step, event_of[step.ingestion_id]) for step in done]
        dialect.insert(_EVENT, _EVENT_COLUMNS, events)
        protocol.reached("event added")
    protocol.reached("transition made")
    return done


def create(
    ingester_id: int,
    file_ids: Iterable[int],
    status: Status,
    *,
    worker: str = "",
    user: str = "",
    note: str = "",
) -> list[int]:
    """Give files their first status at an ingester: UNTRIED or BACKFILL.

    Returns
    -------
    created : `list` [`int`]
        Ids of those files that had none. The others are left as they are.
    """
    ids = list(file_ids)
    if not ids:
        return []
    rows = [{"n": n, "file": file_id} for n, file_id in enumerate(ids, start=1)]
    sql = f"""
        INSERT INTO {_INGESTION}
            (file_id, ingester_id, status, cause, attempts, changed_on, last_event_id)
        SELECT v.file, %s, %s, '', 0, {dialect.now()}, {dialect.next_id(_EVENT, "v.n")}
        FROM {dialect.rows_from_json({"n": "id", "file": "id"})}
        WHERE true
        ON CONFLICT (file_id, ingester_id) DO NOTHING
        RETURNING file_id, last_event_id"""
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        cursor.execute(sql, [ingester_id, status, json.dumps(rows)])
        event_of = dict(cursor.fetchall())
        protocol.reached("first status given")
        steps = [
            Step(0, file_id, status, None, status, 0, worker=worker, user=user, note=note)
            for file_id in event_of
        ]
        events = [_event(ingester_id, step, event_of[step.file_id]) for step in steps]
        dialect.insert(_EVENT, _EVENT_COLUMNS, sorted(events))
        protocol.reached("first event added")
    protocol.reached("history begun")
    return sorted(event_of)


def _event(ingester_id: int, step: Step, event_id: int) -> tuple[Any, ...]:
    """Give the row of an event, in the order of `_EVENT_COLUMNS`."""
    return (
        event_id,
        step.file_id,
        ingester_id,
        step.status.value,
        dialect.time_text(step.start_time),
        step.duration,
        step.message,
        step.cause,
        step.version,
        step.held.hex if step.held else None,
        step.worker,
        step.user,
        step.note,
    )


def _seconds_until(moment: datetime | None) -> float | None:
    """Say how far off a time is: all that is true on a host whose clock is wrong."""
    return None if moment is None else round((moment - timezone.now()).total_seconds(), 3)
