"""The breaker: while a target does not answer, its ingester pauses and probes with one file.

It is open or closed for all workers of an ingester, on all hosts: one row says which.

- `FAILURES_IN_A_ROW` files in a row that fail transiently with the same cause open it; so does a
  plugin that cannot be loaded, twice in a row. Anything that only a target that answers can say
  (a success, a permanent failure) begins a new row.
- What failed in that row, and what workers still had in hand, is given back uncharged.
- While it is open no worker claims anything but, when the time has come, the one that wins the
  probe: one file, taken at random, so that a file that always fails does not hide the others.
- An answer closes it, whoever got it. A failed probe makes the next pause longer. A prober that
  dies loses the probe as soon as it does not renew it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Count
from django.db.models.functions import Now
from django.utils import timezone

from ingest import transitions
from ingest.causes import cause_of
from ingest.models import Breaker, FileEvent
from ingest.probing import first_pause_s, from_now
from ingest.statuses import Status
from ingest.transitions import Step

logger = logging.getLogger(__name__)

FAILURES_IN_A_ROW: Final = 5
FAILED_LOADS_IN_A_ROW: Final = 2
#: So often in an hour a file is given back by pauses that begin; then it pays for its failures.
#: Files that always fail, among others that pass, would be tried for ever otherwise.
MOST_GIVEN_BACK: Final = 3

GIVEN_BACK: Final = "given back uncharged, the ingester pauses"
PROBE_FAILED: Final = "given back uncharged, the target does not answer yet"
_MESSAGE_CHARS: Final = 500
_CLOSED: Final[dict[str, Any]] = {
    "cause": "",
    "message": "",
    "streak": [],
    "opened_on": None,
    "probe_on": None,
    "prober": None,
    "failed_probes": 0,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an attempt, to be written.

    Parameters
    ----------
    step : `Step`
        What becomes of the file.
    answer : `bool`, optional
        Whether it shows that the target answers.
    instead : `Step` or `None`, optional
        After a transient failure: what becomes of the file while the ingester pauses.
    """

    step: Step
    answer: bool = False
    instead: Step | None = None


def weigh(ingester_id: int, outcomes: Sequence[Outcome]) -> list[Step]:
    """Say what becomes of files, and open or close the breaker by what their attempts tell.

    To be called in the transaction that writes the steps.

    Parameters
    ----------
    ingester_id : `int`
        Whose.
    outcomes : `~collections.abc.Sequence` [`Outcome`]
        In the order in which they came.

    Returns
    -------
    steps : `list` [`Step`]
        One for each outcome: its own, or the one instead.
    """
    steps = [outcome.step for outcome in outcomes]
    failures = {n: o.instead for n, o in enumerate(outcomes) if o.instead is not None}
    answers = [n for n, outcome in enumerate(outcomes) if outcome.answer]
    if not failures:
        if answers:
            answered(ingester_id)
        return steps
    row = _locked(ingester_id)
    if row.opened_on is not None:
        until_answer = answers[0] if answers else len(steps)
        for n, instead in failures.items():
            if n < until_answer:
                steps[n] = instead
        if not answers:
            return steps
    if answers:
        _close(row)
    in_a_row = [n for n in failures if not answers or n > answers[-1]]
    for n in in_a_row:
        if row.opened_on is not None:
            steps[n] = failures[n]
            continue
        _count(row, steps[n], failures[n])
        if len(row.streak) >= FAILURES_IN_A_ROW:
            _open(row, f"{len(row.streak)} files in a row failed: {_first_line(steps[n].message)}")
            free = _give_back(row, {steps[m].ingestion_id for m in in_a_row if m <= n})
            for m in in_a_row:
                if steps[m].ingestion_id in free:
                    steps[m] = failures[m]
    row.save()
    return steps


def answered(ingester_id: int) -> None:
    """Take note that the target answers."""
    # After every batch, and almost always in vain: by hand, since the ORM took longer to write the
    # query down than the database to answer it.
    sql = f"SELECT 1 FROM {Breaker._meta.db_table} WHERE ingester_id = %s AND message <> ''"
    with connection.cursor() as cursor:
        cursor.execute(sql, [ingester_id])
        failed_before = cursor.fetchone() is not None
    if failed_before:
        with transaction.atomic():
            row = _locked(ingester_id)
            _close(row)
            row.save()


def failed_load(ingester_id: int, message: str) -> None:
    """Take note that the plugin cannot be loaded.

    Once may be the matter of one host, while the others go on.
    """
    with transaction.atomic():
        row = _locked(ingester_id)
        if row.opened_on is not None:
            return
        _same_cause(row, message)
        row.streak.append({"load": True})
        row.message = _first_line(message)
        if sum("load" in entry for entry in row.streak) >= FAILED_LOADS_IN_A_ROW:
            _open(row, row.message)
            _give_back(row, set())
        row.save()


def _locked(ingester_id: int) -> Breaker:
    return Breaker.objects.select_for_update().get_or_create(ingester_id=ingester_id)[0]


def _same_cause(row: Breaker, message: str) -> None:
    """Begin a new row of failures if their cause is another one."""
    cause = cause_of(message)
    if cause != row.cause:
        row.cause, row.streak = cause, []


def _count(row: Breaker, step: Step, instead: Step) -> None:
    """Count a file that failed; several times in a row is once."""
    _same_cause(row, step.message)
    row.message = _first_line(step.message)
    others = [entry for entry in row.streak if entry.get("ingestion") != step.ingestion_id]
    entry = {
        "ingestion": step.ingestion_id,
        "file": step.file_id,
        "was": str(instead.status),
        "attempts": instead.attempts,
        "due": instead.next_attempt_on is not None,
        "note": instead.note,
    }
    row.streak = [*others, entry]


def _open(row: Breaker, message: str) -> None:
    pause = first_pause_s()
    row.message = message
    row.opened_on = Now()
    row.probe_on = from_now(pause)
    row.failed_probes = 0
    text = "ingester %s pauses: %s; the target is probed with one file in %.0f s"
    _log(text, row.ingester.name, message, pause)


def _close(row: Breaker) -> None:
    if row.opened_on is not None:
        lasted = max(0.0, (timezone.now() - row.opened_on).total_seconds())
        text = "ingester %s goes on: the target answers again, after a pause of %.0f s"
        _log(text, row.ingester.name, lasted)
    for name, value in _CLOSED.items():
        setattr(row, name, value)


def _give_back(row: Breaker, unwritten: Collection[int]) -> set[int]:
    """Give back the files whose failures in a row opened the breaker.

    Parameters
    ----------
    row : `Breaker`
        With the streak, which is empty afterwards.
    unwritten : `~collections.abc.Collection` [`int`]
        Ingestions whose failure is not written yet.

    Returns
    -------
    free : `set` [`int`]
        Those of the unwritten that are to be given back, and not to fail.
    """
    entries = [entry for entry in row.streak if "ingestion" in entry]
    row.streak = []
    spent = set(
        FileEvent.objects.filter(
            ingester=row.ingester_id,
            file__in=[entry["file"] for entry in entries],
            start_time__gte=timezone.now() - timedelta(hours=1),
            note=GIVEN_BACK,
        )
        .order_by()
        .values("file")
        .annotate(n=Count("id"))
        .filter(n__gte=MOST_GIVEN_BACK)
        .values_list("file", flat=True)
    )
    entries = [entry for entry in entries if entry["file"] not in spent]
    transitions.apply(
        row.ingester_id,
        [
            Step(
                ingestion_id=entry["ingestion"],
                file_id=entry["file"],
                was=Status.FAILURE,
                held=None,
                status=Status(entry["was"]),
                attempts=entry["attempts"],
                next_attempt_on=timezone.now() if entry["due"] else None,
                message=row.message,
                note=entry["note"],
            )
            for entry in entries
            if entry["ingestion"] not in unwritten
        ],
    )
    return {entry["ingestion"] for entry in entries} & set(unwritten)


def _first_line(message: str) -> str:
    return next((line.strip() for line in message.splitlines() if line.strip()), "no message")[
        :_MESSAGE_CHARS
    ]


def _log(text: str, *values: object) -> None:
    """Log it when it has come true."""
    transaction.on_commit(partial(logger.warning, text, *values))
