"""Holding a claim while its files are worked on: signs of life, the lease, the operator's stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from django.db import DatabaseError, InterfaceError, close_old_connections

from buffer import patience
from ingest import claims
from ingest.claims import Claim
from ingest.ledger import Ledger
from ingest.verdicts import StopRequested

#: How long a batch may go on after the operator asked to stop, and how long the target may then
#: be asked what got in; seconds.
STOP_GRACE_S: Final = 4.0
STOP_QUESTIONS_S: Final = 3.0
#: Renewed this long before it lapses or not at all: the host dies before the lease does.
_MARGIN_S: Final = 5.0


class LeaseLost(Exception):
    """The claim cannot be renewed in time; somebody else may get these files."""


class Holding:
    """Holds a claim. Make it right after the claim: its lease is counted from then.

    Parameters
    ----------
    claim : `Claim`
        What is held.
    ledger : `Ledger`
        With outcomes that are to be written meanwhile.
    under_way : callable
        Tells whether files of the claim have no verdict, so that it must be held for them.
    stopping : callable
        Tells whether to give up what is not finished soon.
    beat : callable
        Called at each tick.
    """

    def __init__(
        self,
        claim: Claim,
        ledger: Ledger,
        *,
        under_way: Callable[[], bool],
        stopping: Callable[[], bool],
        beat: Callable[[], None],
    ) -> None:
        self._claim, self._ledger = claim, ledger
        self._under_way, self._stopping, self._beat = under_way, stopping, beat
        self._renewed = time.monotonic()
        self._stop_at: float | None = None

    @property
    def until(self) -> float:
        """Time of the monotonic clock up to which it surely holds."""
        return self._renewed + claims.LEASE_S - _MARGIN_S

    def tick(self) -> None:
        """Give a sign of life, write outcomes, renew the lease; several times a second.

        Raises
        ------
        LeaseLost
            The claim does not hold any more.
        StopRequested
            The operator asked to stop, and the time for it has run out.
        """
        self._beat()
        with patience.until(self.until):
            self._ledger.flush_if_due()
            self._renew_if_due()
        if not self._stopping():
            return
        now = time.monotonic()
        self._stop_at = self._stop_at or now + STOP_GRACE_S
        if now >= self._stop_at:
            raise StopRequested("the operator stopped the ingester", time_left_s=STOP_QUESTIONS_S)

    def _renew_if_due(self) -> None:
        if time.monotonic() - self._renewed < claims.RENEW_EVERY_S:
            return
        begun = time.monotonic()
        try:
            held = claims.renew(self._claim)
            self._renewed = time.monotonic()
        except (DatabaseError, InterfaceError) as error:
            close_old_connections()
            if begun > self.until:
                raise LeaseLost(f"the database did not renew it: {error}") from error
            return
        if not held and self._under_way():
            raise LeaseLost("it had lapsed: this worker stood still for too long")
