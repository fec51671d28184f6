"""The outcomes of one claim on their way to the database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, close_old_connections, transaction

from ingest import breaker, transitions
from ingest.breaker import Outcome
from ingest.claims import Claim, Claimed
from ingest.statuses import Status
from ingest.transitions import Step

logger = logging.getLogger(__name__)

#: Outcomes are written at least this often while a batch is under way; seconds.
FLUSH_EVERY_S: Final = 0.25
#: How long the last outcomes of a batch wait for a database that does not answer; seconds.
PATIENCE_S: Final = 60.0


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

    def flush_if_due(self) -> None:
        """Write what was noted, if the last time is long enough ago."""
        if self._outcomes and time.monotonic() - self._flushed >= FLUSH_EVERY_S:
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
            with transaction.atomic():
                self.apply(breaker.weigh(self._claim.ingester_id, self._outcomes))
            self._outcomes = []
        self._flushed = time.monotonic()

    def _say_not_written(self, error: Exception) -> None:
        reason = str(error).strip()
        logger.warning("claim %s: outcomes are not written yet: %s", self._claim.token, reason)
        close_old_connections()

    def apply(self, steps: list[Step]) -> list[Step]:
        """Write transitions now; give those that took place."""
        done = transitions.apply(self._claim.ingester_id, steps)
        if len(done) < len(steps):
            written = {step.ingestion_id for step in done}
            lost = [str(s.file_id) for s in steps if s.ingestion_id not in written]
            logger.warning(
                "claim %s: lease lost, outcome discarded of files %s",
                self._claim.token,
                ", ".join(lost),
            )
        return done
