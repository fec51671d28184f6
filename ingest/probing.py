"""Probing a target that does not answer: who may try one file, and when.

Which worker of which host probes is decided by a filtered UPDATE, by the database's clock.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, close_old_connections
from django.db.models import DateTimeField, ExpressionWrapper, F, Q
from django.db.models.functions import Now

from buffer import dialect
from ingest.models import Breaker

logger = logging.getLogger(__name__)

#: The pause before the first probe; it doubles with each that fails, up to the longest. Seconds.
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 30.0
#: How long a probe is its worker's without being renewed, and how often that is done; seconds.
PROBE_S: Final = 30.0
RENEW_EVERY_S: Final = 10.0


def probe_is_due(ingester_id: int) -> bool:
    """Tell whether a worker could probe now."""
    return Breaker.objects.filter(ingester=ingester_id, probe_on__lte=Now()).exists()


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
            probe_on=from_now(PROBE_S), prober=token
        )
        return cls(ingester_id, token) if won else None

    def renewing(self, beat: Callable[[], None]) -> Callable[[], None]:
        """Give a sign of life that renews the probe, too."""

        def beat_and_renew() -> None:
            beat()
            if time.monotonic() - self._renewed >= RENEW_EVERY_S:
                self._renewed = time.monotonic()
                self._write(probe_on=from_now(PROBE_S))

        return beat_and_renew

    def end(self) -> None:
        """Give it up: if the breaker is open still, the probe has failed."""
        if not self.tried:
            self._write(probe_on=Now(), prober=None)
            return
        row = self._mine.first()
        if row is not None:
            pause = _pause_s(row.failed_probes + 1)
            self._write(probe_on=from_now(pause), prober=None, failed_probes=F("failed_probes") + 1)

    def _write(self, **fields: Any) -> None:
        try:
            self._mine.update(**fields)
        except (DatabaseError, InterfaceError) as error:
            # It lapses, and somebody else probes.
            logger.warning("the probe is not renewed: %s", str(error).strip())
            close_old_connections()


def first_pause_s() -> float:
    """Give the pause before the first probe, in seconds."""
    return _pause_s(0)


def _pause_s(failed_probes: int) -> float:
    pause = min(FIRST_PAUSE_S * 2.0 ** min(failed_probes, 30), LONGEST_PAUSE_S)
    return pause * random.uniform(0.8, 1.2)


def from_now(seconds: float) -> Any:
    """Give a time from now by the database's clock."""
    return ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=DateTimeField())


def after_step_back(ingester_id: int) -> None:
    """Let a probe be due now that would wait until a clock that was set back has made up for it."""
    longest = timedelta(seconds=2 * max(LONGEST_PAUSE_S, PROBE_S))
    Breaker.objects.filter(ingester_id=ingester_id, probe_on__gt=dialect.clock() + longest).update(
        probe_on=Now()
    )
