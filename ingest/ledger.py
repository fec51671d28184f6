"""The outcomes of one claim on their way to the database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, transaction

from buffer import outages
from ingest import breaker, transitions
from ingest.breaker import Outcome
from ingest.claims import Claim, Claimed
from ingest.models import FileEvent
from ingest.statuses import Status
from ingest.transitions import Step

logger = logging.getLogger(__name__)

#: Outcomes are written this often while a batch is under way; where that takes long, as with very
#: many workers, less often, so that it takes no more than a share of the time. Seconds.
FLUSH_EVERY_S: Final = 0.25
LONGEST_FLUSH_S: Final = 2.0
_SHARE: Final = 0.1
#: How long the last outcomes of a batch wait for a database that does not answer; seconds.
PATIENCE_S: Final = 60.0


#: How long the last outcomes took to be written by this process; seconds.
_took_s = 0.0


class Ledger:
    """Collects transitions of claimed files, and writes many of them at once.

    Parameters
    ----------
    claim : `Claim`
        What is held. Whoever lost it cannot write any more.
    """

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._outcomes: list[Outcome] = []
        self._flushed = time.monotonic()
        self._late = False

    def step(
        self, claimed: Claimed, status: Status, was: Status, attempts: int, **fields: Any
    ) -> Step:
        """Describe a transition of one claimed file."""
        return Step(
            ingestion_id=claimed.ingestion_id,
            file_id=claimed.file_id,
            was=was,
            held=self._claim.token,
            status=status,
            attempts=attempts,
            keep=status == Status.PENDING,
            worker=self._claim.worker,
            **fields,
        )

    def add(self, outcome: Outcome) -> None:
        """Note the end of an attempt; it is written with others, soon."""
        self._outcomes.append(outcome)
        self.flush_if_due()

    @property
    def has_failures(self) -> bool:
        """Whether transient failures were noted that are not written yet."""
        return any(outcome.instead is not None for outcome in self._outcomes)

    def flush_if_due(self) -> None:
        """Write what was noted, if the last time is long enough ago."""
        pause = max(FLUSH_EVERY_S, min(_took_s / _SHARE, LONGEST_FLUSH_S))
        if self._outcomes and time.monotonic() - self._flushed >= pause:
            try:
                self._flush()
            except (DatabaseError, InterfaceError) as error:
                # They are kept, and written when the database answers again.
                self._say_not_written(error)
                self._flushed = time.monotonic()

    def flush_all(self, *, stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Write the last outcomes; wait for a database that is away.

        Whether they still count is decided by the row: a claim that lapsed meanwhile and was
        swept does not let them in.
        """
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._flush()
                return
            except (DatabaseError, InterfaceError) as error:
                if time.monotonic() > until or stopping():
                    raise
                self._say_not_written(error)
                beat()
                time.sleep(1.0)

    def _flush(self) -> None:
        if self._outcomes:
            self._write([])

    def _write(self, steps: list[Step]) -> list[Step]:
        """Write what was noted together with other transitions; give those that took place."""
        global _took_s
        begun = time.monotonic()
        with transaction.atomic():
            ended = breaker.weigh(self._claim.ingester_id, self._outcomes)
            done = self.apply([*ended, *steps])
        if ended:
            _took_s = time.monotonic() - begun
            self._outcomes = []
            self._late = False
            self._flushed = time.monotonic()
            outages.answers()
        return done

    def _say_not_written(self, error: Exception) -> None:
        if not self._late:
            logger.warning("claim %s: its outcomes wait for the database", self._claim.token)
        self._late = True
        outages.away(error)

    def begin(
        self,
        steps: list[Step],
        *,
        until: float,
        stopping: Callable[[], bool],
        beat: Callable[[], None],
    ) -> list[Step]:
        """Write the transitions that begin attempts; wait for a database that is away.

        Not longer than to a time of the monotonic clock at which the claim surely still holds.
        What was noted is written along, by the same statements.
        """
        while True:
            try:
                return self._write(steps)
            except outages.UNAVAILABLE as error:
                if time.monotonic() > until or stopping():
                    raise
                outages.away(error)
                beat()
                time.sleep(0.5)

    def apply(self, steps: list[Step]) -> list[Step]:
        """Write transitions now; give those that took place."""
        done = transitions.apply(self._claim.ingester_id, steps)
        if len(done) < len(steps):
            written = {step.ingestion_id for step in done}
            missing = [step for step in steps if step.ingestion_id not in written]
            # They may have been committed before, by a connection that was lost before it said so.
            before = self._recorded(missing)
            done += [step for step in missing if (step.file_id, step.status) in before]
        if len(done) < len(steps):
            written = {step.ingestion_id for step in done}
            lost = [str(s.file_id) for s in steps if s.ingestion_id not in written]
            logger.warning(
                "claim %s: lease lost, outcome discarded of files %s",
                self._claim.token,
                ", ".join(lost),
            )
        return done

    def _recorded(self, steps: list[Step]) -> set[tuple[int, str]]:
        """Give those of our own steps, as file and status, that have their event."""
        events = FileEvent.objects.filter(
            claim=self._claim.token,
            worker=self._claim.worker,
            file_id__in=[step.file_id for step in steps],
        )
        return set(events.values_list("file_id", "status"))
