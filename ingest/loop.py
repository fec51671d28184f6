"""What `manage.py runingester` does again and again, wherever its workers are."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from django.db import DatabaseError, InterfaceError
from django.db.models import Count, Max
from django.db.models.functions import Now

from buffer import operator_pauses, outages
from buffer.components import Heartbeat, worker_name
from buffer.models import ComponentKind
from buffer.operator_pauses import Pausable
from buffer.signals import StopSignals
from ingest import claims, pauses, probing, rerun_jobs, sweeping, tallies, targets
from ingest.lanes import Lanes
from ingest.models import FileEvent, Ingester
from ingest.opening import Opener
from ingest.pauses import Pause

logger = logging.getLogger(__name__)

SWEEP_EVERY_S: Final = 5.0
#: How soon a request of the admin for very many files is begun.
JOBS_EVERY_S: Final = 1.0
#: A run that is to end gives up after so many failed probes, some three minutes.
MOST_PROBES: Final = 9
#: So many events, of whatever ingester, are counted at the end of a run, and no more.
MOST_COUNTED: Final = 1_000_000
_TICK_S: Final = 0.1


class TargetDown(Exception):
    """A run that was to end gave up, because the target does not answer."""


class HeldBack(Exception):
    """A run that was to end found that a person has paused the ingester."""


class Loop:
    """Opens, sweeps, and tells whether files wait.

    Parameters
    ----------
    ingester : `Ingester`
        Whose files they are.
    run : `targets.Run`
        How it was started.
    heartbeat : `Heartbeat`
        Gets a sign of life in each cycle.
    once : `bool`
        Return from `run` when no file has a wanted status any more.
    """

    def __init__(
        self, ingester: Ingester, run: targets.Run, heartbeat: Heartbeat, *, once: bool
    ) -> None:
        self.run_id = heartbeat.id
        self._ingester, self._run, self._heartbeat, self._once = ingester, run, heartbeat, once
        self._lanes = Lanes(ingester.pk, ingester.name, run.lanes())
        self._pausable = Pausable(ComponentKind.INGESTER, ingester.name)
        self._opener = Opener(ingester, worker_name())
        self._sweeper = sweeping.Sweeper(ingester.pk, worker_name())
        self._next_sweep = self._next_look = self._next_job = 0.0
        self._waits = False
        self._rescued = 0
        #: For how long idle workers of our own have left wake-ups waiting; seconds.
        self.canary_s: float | None = None
        #: What is missing for the files that wait to be tried, for an operator.
        self.lacks = ""
        self._pause: Pause | None = None
        self._held_back = ""

    def waiting(self) -> bool:
        """Tell whether any file can be claimed now."""
        return self._waits

    def run(self, stop: StopSignals, wake: Callable[[], None]) -> None:
        """Go on until asked to stop, or until nothing is left if that is wanted."""
        while not stop.requested:
            try:
                opened = self._cycle()
                wake()
                if self._once and not opened and self._is_done():
                    return
                outages.answers()
            except (DatabaseError, InterfaceError) as error:
                outages.away(error)
                stop.wait(1.0)
                # Workers that held files meanwhile are to write their outcomes first.
                self._next_sweep = time.monotonic() + SWEEP_EVERY_S
                continue
            if not opened:
                stop.wait(_TICK_S)

    def outcomes(self) -> dict[str, int]:
        """Count the events of this run by status; none if they are too many to be counted."""
        newest = FileEvent.objects.aggregate(newest=Max("id"))["newest"] or 0
        if newest - self._run.first_event > MOST_COUNTED:
            return {}
        rows = (
            FileEvent.objects.filter(ingester=self._ingester, id__gt=self._run.first_event)
            .values_list("status")
            .annotate(n=Count("id"))
        )
        return dict(sorted(rows))

    def _cycle(self) -> int:
        """Beat, open what has arrived, sweep and ask now and then; tell how many files it was."""
        self._heartbeat.beat(
            message=self._held_back or str(self._pause or "") or self.lacks,
            counters={"lease_rescues": self._rescued},
            canary_s=self.canary_s,
        )
        now = time.monotonic()
        opened = self._opener.step() if self._opener.has_new() else 0
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_EVERY_S
            swept = self._sweeper.sweep()
            if rescued := len(swept.unknown) + swept.dropped:
                self._rescued += rescued
                self._heartbeat.beat(counters={"lease_rescues": self._rescued}, now=True)
            tallies.count(self._ingester.pk)
            if swept.unknown:
                logger.warning(
                    "ingester %s: a worker was lost; outcome unknown of files %s",
                    self._ingester.name,
                    ", ".join(map(str, swept.unknown)),
                )
            # Also while files arrive: that is when some are committed late.
            opened += self._opener.sweep()
            Ingester.objects.filter(pk=self._ingester.pk).update(seen_on=Now())
        if now >= self._next_job:
            asked = rerun_jobs.step(self._ingester.pk)
            self._next_job = now + (0.0 if asked else JOBS_EVERY_S)
            opened += asked
        if opened or now >= self._next_look:
            self._pause = pauses.look(self._ingester.pk)
            self._hold_back(operator_pauses.look(self._pausable))
            may_try = not self._held_back and (
                self._pause is None or probing.probe_is_due(self._ingester.pk)
            )
            self._waits = may_try and bool(self._lanes.waiting())
            # While files wait, workers are busy and need no more than a look now and then.
            self._next_look = now + (_TICK_S if not self._waits else 4 * _TICK_S)
        return opened

    def _hold_back(self, reason: str) -> None:
        """Note whether a person has paused the ingester, and log it once."""
        if reason and not self._held_back:
            logger.info("ingester %s is %s", self._ingester.name, reason)
        elif self._held_back and not reason:
            logger.info("ingester %s goes on", self._ingester.name)
        self._held_back = reason

    def _is_done(self) -> bool:
        """Tell whether a run that is to end has nothing left: waiting, held, or due later."""
        ingester = self._ingester.pk
        if claims.anything_held(ingester):
            return False
        if self._lanes.waiting():
            if self._held_back:
                raise HeldBack(
                    f"ingester {self._ingester.name} is {self._held_back}. Files wait;"
                    f" manage.py resume --ingester {self._ingester.name} lets it go on"
                )
            pause = pauses.look(ingester)
            if pause is not None and pause.failed_probes >= MOST_PROBES:
                raise TargetDown(
                    f"gave up after {pause.failed_probes} failed probes: ingester"
                    f" {self._ingester.name} {pause}. Files wait, as manage.py status shows;"
                    " the next run tries them"
                )
            return False
        return not claims.anything_due_later(ingester, self._lanes.left)
