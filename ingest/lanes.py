"""What one run of an ingester claims, which becomes less while it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from ingest import claims
from ingest.claims import Lane
from ingest.models import Ingestion

#: How often it is looked whether a lane is exhausted, while nothing waits; seconds.
LOOK_EVERY_S: Final = 1.0


class Lanes:
    """The lanes of one run, without those that are exhausted.

    A lane of what had failed before the run began finds nothing more once all of it was tried. To
    see that, a query goes through all that failed since, so it must not be asked for ever.

    Parameters
    ----------
    ingester_id : `int`
        Whose files.
    lanes : `~collections.abc.Sequence` [`Lane`]
        What the run claims, in its order.

    Attributes
    ----------
    left : `~collections.abc.Sequence` [`Lane`]
        Those that are not exhausted.
    """

    def __init__(self, ingester_id: int, lanes: Sequence[Lane]) -> None:
        self._ingester_id = ingester_id
        self.left = lanes
        self._next_look = 0.0

    def waiting(self) -> Sequence[Lane]:
        """Give those lanes that have a file to claim now, in their order."""
        found = claims.waiting(self._ingester_id, self.left)
        if not found and time.monotonic() >= self._next_look:
            self.left = [lane for lane in self.left if not self._is_exhausted(lane)]
            self._next_look = time.monotonic() + LOOK_EVERY_S
        return found

    def _is_exhausted(self, lane: Lane) -> bool:
        """Tell whether no file can come into a lane any more.

        What is tried gets a newer event. What somebody holds may still be given back.
        """
        if lane.due or lane.before_event is None:
            return False
        return not Ingestion.objects.filter(
            ingester_id=self._ingester_id,
            status=lane.status,
            last_event_id__lte=lane.before_event,
        ).exists()
