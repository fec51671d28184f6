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
import random
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, close_old_connections, transaction
from django.db.models import Count, DateTimeField, ExpressionWrapper, F, Q
from django.db.models.functions import Now
from django.utils import timezone

from buffer import dialect, shown
from ingest import transitions
from ingest.causes import cause_of
from ingest.models import Breaker, FileEvent, Ingester
from ingest.statuses import Status
from ingest.transitions import Step

logger = logging.getLogger(__name__)

FAILURES_IN_A_ROW: Final = 5
FAILED_LOADS_IN_A_ROW: Final = 2
#: The pause before the first probe; it doubles with each that fails, up to the longest. Seconds.
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 30.0
#: How long a probe is its worker's without being renewed, and how often that is done; seconds.
PROBE_S: Final = 30.0
RENEW_EVERY_S: Final = 10.0
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


@dataclass(frozen=True, slots=True)
class Pause:
    """An open breaker, for operators.

    Parameters
    ----------
    since, next_probe : `~datetime.datetime`
        When it began, and when the target is probed next.
    reason : `str`
        Why.
    probing : `bool`
        Whether a worker probes now.
    failed_probes : `int`
        How many probes have failed.
    """

    since: datetime
    reason: str
    next_probe: datetime
    probing: bool
    failed_probes: int

    def __str__(self) -> str:
        # Stays the same while it lasts.
        return f"paused since {self.since:%Y-%m-%d %H:%M:%S} UTC: {self.reason}"

    @property
    def next(self) -> str:
        """What happens next."""
        if self.probing:
            return "the target is being probed with one file"
        return f"the target is probed with one file at {self.next_probe:%H:%M:%S} UTC"


def pause_of(row: Breaker | None) -> Pause | None:
    """Describe a breaker's row; None if the ingester works."""
    if row is None or row.opened_on is None or row.probe_on is None:
        return None
    probing = row.prober is not None and row.probe_on > timezone.now()
    return Pause(row.opened_on, row.message, row.probe_on, probing, row.failed_probes)


def shown_pause(ingester: Ingester) -> Pause | None:
    """Describe the pause of an ingester, with a reason that is safe to show."""
    pause = pause_of(getattr(ingester, "breaker", None))
    return None if pause is None else replace(pause, reason=shown.message(pause.reason))


def look(ingester_id: int) -> Pause | None:
    """Tell whether an ingester pauses, and why."""
    return pause_of(Breaker.objects.filter(ingester=ingester_id).first())


def probe_is_due(ingester_id: int) -> bool:
    """Tell whether a worker could probe now."""
    return Breaker.objects.filter(ingester=ingester_id, probe_on__lte=Now()).exists()


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
    if Breaker.objects.filter(ingester=ingester_id).exclude(message="").exists():
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


def probe_now(ingester_id: int) -> bool:
    """Have an ingester that pauses probe at once, unless it does so already."""
    free = Q(prober__isnull=True) | Q(probe_on__lte=Now())
    return bool(
        Breaker.objects.filter(free, ingester=ingester_id, opened_on__isnull=False).update(
            probe_on=Now(), prober=None, failed_probes=0
        )
    )


class Probe:
    """The right to try one file while the breaker is open.

    Parameters
    ----------
    ingester_id : `int`
        Whose.
    token : `~uuid.UUID`
        Of the worker.
    """

    def __init__(self, ingester_id: int, token: uuid.UUID) -> None:
        self._mine = Breaker.objects.filter(ingester=ingester_id, prober=token)
        self._renewed = time.monotonic()
        #: Whether the target was asked anything; if not, the next probe need not wait.
        self.tried = True

    @classmethod
    def take(cls, ingester_id: int) -> Probe | None:
        """Win the probe, if it is due and nobody else does."""
        if not probe_is_due(ingester_id):
            return None
        token = uuid.uuid4()
        won = Breaker.objects.filter(ingester=ingester_id, probe_on__lte=Now()).update(
            probe_on=_in(PROBE_S), prober=token
        )
        return cls(ingester_id, token) if won else None

    def renewing(self, beat: Callable[[], None]) -> Callable[[], None]:
        """Give a sign of life that renews the probe, too."""

        def beat_and_renew() -> None:
            beat()
            if time.monotonic() - self._renewed >= RENEW_EVERY_S:
                self._renewed = time.monotonic()
                self._write(probe_on=_in(PROBE_S))

        return beat_and_renew

    def end(self) -> None:
        """Give it up: if the breaker is open still, the probe has failed."""
        if not self.tried:
            self._write(probe_on=Now(), prober=None)
            return
        row = self._mine.first()
        if row is not None:
            pause = _pause_s(row.failed_probes + 1)
            self._write(probe_on=_in(pause), prober=None, failed_probes=F("failed_probes") + 1)

    def _write(self, **fields: Any) -> None:
        try:
            self._mine.update(**fields)
        except (DatabaseError, InterfaceError) as error:
            # It lapses, and somebody else probes.
            logger.warning("the probe is not renewed: %s", str(error).strip())
            close_old_connections()


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
    pause = _pause_s(0)
    row.message = message
    row.opened_on = Now()
    row.probe_on = _in(pause)
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


def _pause_s(failed_probes: int) -> float:
    pause = min(FIRST_PAUSE_S * 2.0 ** min(failed_probes, 30), LONGEST_PAUSE_S)
    return pause * random.uniform(0.8, 1.2)


def _in(seconds: float) -> Any:
    """Give a time from now by the database's clock."""
    return ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=DateTimeField())


def _log(text: str, *values: object) -> None:
    """Log it when it has come true."""
    transaction.on_commit(partial(logger.warning, text, *values))


def after_step_back(ingester_id: int) -> None:
    """Let a probe be due now that would wait until a clock that was set back has made up for it."""
    longest = timedelta(seconds=2 * max(LONGEST_PAUSE_S, PROBE_S))
    Breaker.objects.filter(ingester_id=ingester_id, probe_on__gt=dialect.clock() + longest).update(
        probe_on=Now()
    )
