"""The end of claims whose worker is gone, and of times that a set clock has made wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from buffer import dialect
from buffer import steps as protocol
from ingest import probing, transitions
from ingest.claims import LEASE_S, TABLE
from ingest.models import Ingestion
from ingest.statuses import Status

logger = logging.getLogger(__name__)

#: The database's clock is said to have been set if it went wrong by more than this; a lease that
#: was just renewed outlasts smaller steps.
_STEP_S = 5.0


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: attempts whose end nobody saw, and claims that had not begun."""

    unknown: list[int]
    dropped: int


def sweep(ingester_id: int, worker: str) -> Swept:
    """End the claims whose lease has lapsed.

    A file whose attempt had begun becomes UNKNOWN, and the target is asked about it where the
    plugin can tell; the others are free again as they were.
    """
    if not _anything_lapsed(ingester_id):
        return Swept([], 0)
    lapsed = Ingestion.objects.filter(
        ingester_id=ingester_id, claim__isnull=False, lease_until__lt=Now()
    )
    dropped = lapsed.exclude(status=Status.PENDING).update(claim=None, lease_until=None)
    protocol.reached("lapsed claims dropped")
    message = "the worker stopped answering while it worked on this file; the outcome is unknown"
    steps = [
        transitions.Step(
            ingestion_id=row.pk,
            file_id=row.file_id,
            was=Status.PENDING,
            held=row.claim,
            status=Status.UNKNOWN,
            attempts=row.attempts,
            cause="worker lost",
            # Due at once: whoever can ask the target does so next.
            next_attempt_on=timezone.now() - timedelta(seconds=1),
            message=message,
            worker=worker,
        )
        for row in lapsed.filter(status=Status.PENDING).order_by("id")[:1000]
    ]
    done = transitions.apply(ingester_id, steps, lapsed=True)
    return Swept([step.file_id for step in done], dropped)


def _anything_lapsed(ingester_id: int) -> bool:
    """Look at the first lease in the order of their ends.

    Until a vacuum its index knows every claim there was. A look in its order marks what is over,
    and passes over it from then on; the statements of a sweep would go through all of it each time.
    """
    sql = f"""
        SELECT 1 FROM {TABLE}
        WHERE ingester_id = %s AND claim IS NOT NULL AND lease_until < {dialect.now()}
        ORDER BY lease_until LIMIT 1"""
    with connection.cursor() as cursor:
        cursor.execute(dialect.in_order(sql), [ingester_id])
        return cursor.fetchone() is not None


class Sweeper:
    """Sweeps again and again, and is not misled when the database's clock is set.

    Leases and retries are times of that clock. After a step forward every lease has lapsed by it,
    also those of workers that live; after a step back nothing lapses or is due until the clock has
    made up for it.

    Parameters
    ----------
    ingester_id : `int`
        Whose claims.
    worker : `str`
        Who does it, for the history.
    steady : callable, optional
        A clock that is never set.
    """

    def __init__(
        self, ingester_id: int, worker: str, *, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._ingester_id, self._worker, self._steady = ingester_id, worker, steady
        self._offset: float | None = None

    def sweep(self) -> Swept:
        """Allow for a step of the clock, and end the claims whose lease has lapsed."""
        offset = self._read().timestamp() - self._steady()
        step = 0.0 if self._offset is None else offset - self._offset
        if abs(step) > _STEP_S:
            logger.warning("the database's clock was set by %+.0f s", step)
        if self._offset is None or step < -_STEP_S:
            self._after_step_back()
        elif step > _STEP_S:
            # Whoever lives renews his lease again; whoever does not holds it once more.
            self._lease_again(f"lease_until < {dialect.now()}")
        self._offset = offset
        return sweep(self._ingester_id, self._worker)

    def _read(self) -> datetime:
        return dialect.clock()

    def _after_step_back(self) -> None:
        """Begin leases and pauses anew that would last until the clock has made up for it."""
        self._lease_again(f"lease_until > {dialect.now_plus(LEASE_S + 1)}")
        probing.after_step_back(self._ingester_id)
        # A pause began when the row got its status: in the future, by the clock as it is now.
        late = Ingestion.objects.filter(
            ingester_id=self._ingester_id,
            next_attempt_on__isnull=False,
            changed_on__gt=dialect.clock() + timedelta(seconds=1),
        )
        while rows := list(late.only("changed_on", "next_attempt_on", "last_event")[:1000]):
            now = dialect.clock()
            for row in rows:
                assert row.next_attempt_on is not None
                pause = max(row.next_attempt_on - row.changed_on, timedelta(0))
                late.filter(pk=row.pk, last_event=row.last_event_id).update(
                    changed_on=now, next_attempt_on=now + pause
                )

    def _lease_again(self, condition: str) -> None:
        sql = f"""
            UPDATE {TABLE} SET lease_until = {dialect.now_plus(LEASE_S)}
            WHERE ingester_id = %s AND claim IS NOT NULL AND {condition}"""
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql, [self._ingester_id])
