"""What one run of an ingester claims, which becomes less while it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from django.db import connection

from buffer.models import Component, ComponentKind, OperatorPause
from ingest import claims
from ingest.claims import Claim, Lane
from ingest.models import Breaker, Ingestion
from ingest.statuses import Status

#: How often it is looked whether a lane is exhausted, while nothing waits; seconds.
LOOK_EVERY_S: Final = 1.0
#: A worker that goes on where it was looks this often from the beginning again; seconds.
FROM_THE_BEGINNING_EVERY_S: Final = 10.0

#: Numbers that no lane has, for what is asked beside them.
_HELD_BACK: Final = -1
_PAUSES: Final = -2


_MAY_NOT: Final = f"""
    SELECT {_HELD_BACK} WHERE EXISTS (
        SELECT 1 FROM {OperatorPause._meta.db_table}
        WHERE kind = %s AND subject = %s AND host = '' AND resumed_on IS NULL)
    UNION ALL
    SELECT {_PAUSES} WHERE EXISTS (
        SELECT 1 FROM {Breaker._meta.db_table} WHERE ingester_id = %s AND opened_on IS NOT NULL)"""


_RUN_HAS_ENDED: Final = f"""
    SELECT 1 WHERE NOT EXISTS (
        SELECT 1 FROM {Component._meta.db_table} WHERE id = %s AND stopped_on IS NULL)"""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a worker sees when it looks for work.

    Parameters
    ----------
    lanes : `~collections.abc.Sequence` [`Lane`]
        Those that have a file to claim now, in their order.
    held_back : `bool`
        Whether a person has paused the ingester.
    pauses : `bool`
        Whether it pauses because its target does not answer.
    """

    lanes: Sequence[Lane]
    held_back: bool
    pauses: bool


class Lanes:
    """The lanes of one run, without those that are exhausted.

    A lane of what had failed before the run began finds nothing more once all of it was tried. To
    see that, a query goes through all that failed since, so it must not be asked for ever.

    Among the untried, which come in at the end, a worker goes on behind what it claimed last. Where
    many workers claim, the index before that is full of what was claimed of late, and PostgreSQL
    has to step over it, row by row, as long as any transaction may still see it. What comes back
    there, or was committed late, waits until nothing is left behind that place, or for
    `FROM_THE_BEGINNING_EVERY_S`.

    Parameters
    ----------
    ingester_id : `int`
        Whose files.
    name : `str`
        The ingester's name.
    lanes : `~collections.abc.Sequence` [`Lane`]
        What the run claims, in its order.
    run_id : `int`, optional
        Id of the component of the command that runs it, if one does.

    Attributes
    ----------
    left : `~collections.abc.Sequence` [`Lane`]
        Those that are not exhausted.
    """

    def __init__(
        self, ingester_id: int, name: str, lanes: Sequence[Lane], *, run_id: int | None = None
    ) -> None:
        self._ingester_id, self._run_id = ingester_id, run_id
        self._may_not: list[Any] = [ComponentKind.INGESTER, name, ingester_id]
        self.left = lanes
        self._next_look = 0.0
        #: The last of the untried that was claimed, and until when to go on behind it.
        self._place, self._go_on_until = 0, 0.0

    def waiting(self) -> Sequence[Lane]:
        """Give those lanes that have a file to claim now, in their order."""
        found = claims.waiting(self._ingester_id, self.left)
        if not found:
            self._drop_exhausted()
        return found

    def look(self) -> Sight:
        """Look for work, and whether it may be done, by one query.

        By two, once, when nothing is left behind the place from which to go on.
        """
        all_lanes = [self._further(lane) for lane in self.left]
        sql, values = claims.waiting_sql(self._ingester_id, all_lanes)
        sql += f" UNION ALL {_MAY_NOT}"
        values += self._may_not
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            numbers = {number for (number,) in cursor.fetchall()}
        if any(lane.above and number not in numbers for number, lane in enumerate(all_lanes)):
            self._place = 0
            return self.look()
        lanes = [lane for number, lane in enumerate(all_lanes) if number in numbers]
        if not lanes:
            self._drop_exhausted()
        return Sight(lanes, _HELD_BACK in numbers, _PAUSES in numbers)

    def may_claim(self) -> bool:
        """Tell whether neither a person nor its target has it pause, and the run has not ended."""
        sql, values = _MAY_NOT, self._may_not
        if self._run_id is not None:
            sql, values = f"{sql} UNION ALL {_RUN_HAS_ENDED}", [*values, self._run_id]
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchone() is None

    def claimed(self, claim: Claim, limit: int) -> None:
        """Note what was claimed, to go on behind it.

        Parameters
        ----------
        claim : `Claim`
            Of files that were not taken from anywhere.
        limit : `int`
            How many it might have had. If it has fewer, nothing that was free was left behind.
        """
        last = claim.files[-1]
        if last.status != Status.UNTRIED:
            return
        if len(claim.files) < limit:
            self._place = 0
            return
        if not self._place:
            self._go_on_until = time.monotonic() + FROM_THE_BEGINNING_EVERY_S
        self._place = last.ingestion_id

    def from_the_beginning(self) -> None:
        """Go on behind nothing: something came back."""
        self._place = 0

    def _further(self, lane: Lane) -> Lane:
        if not self._place or lane.status != Status.UNTRIED or lane.due:
            return lane
        if time.monotonic() >= self._go_on_until:
            self._place = 0
        return replace(lane, above=self._place)

    def _drop_exhausted(self) -> None:
        if time.monotonic() >= self._next_look:
            self.left = [lane for lane in self.left if not self._is_exhausted(lane)]
            self._next_look = time.monotonic() + LOOK_EVERY_S

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
