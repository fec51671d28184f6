"""The pauses of ingesters whose target does not answer, as operators see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from django.utils import timezone

from buffer import shown
from ingest.models import Breaker, Ingester


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
