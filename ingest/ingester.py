"""The loop of `manage.py runingester`: opens, sweeps, and keeps workers awake while files wait."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.db.models import Count
from django.db.models.functions import Now

from buffer import alerts, operator_pauses, outages
from buffer.components import Heartbeat, live, worker_name
from buffer.models import ComponentKind, Storage
from buffer.operator_pauses import Pausable
from buffer.problems import ConfigError
from buffer.signals import StopSignals
from buffer.wakeups import QueueUnavailable, WakeUps
from buffer.workers import Workers, WorkerTimeouts
from ingest import claims, pauses, plugins, probing, rerun_jobs, tallies, targets
from ingest.config import IngesterFile, IngesterSection
from ingest.models import FileEvent, Ingester
from ingest.opening import Opener
from ingest.pauses import Pause
from ingest.plugin_host import PluginHost, PluginUnavailable
from ingest.plugins.base import PluginConfigError
from ingest.sessions import SESSION_S, ingester_session

logger = logging.getLogger(__name__)

#: The queue that `manage.py runworkers` reads, on any host.
SHARED_QUEUE: Final = "ingest"
SWEEP_EVERY_S: Final = 5.0
#: How soon a request of the admin for very many files is begun.
JOBS_EVERY_S: Final = 1.0
#: A run that is to end gives up after so many failed probes, some three minutes.
MOST_PROBES: Final = 9
_TICK_S: Final = 0.1
_SESSION: Final = f"{ingester_session.__module__}.{ingester_session.__qualname__}"


class TargetDown(Exception):
    """A run that was to end gave up, because the target does not answer."""


class HeldBack(Exception):
    """A run that was to end found that a person has paused the ingester."""


def run_ingester(config: IngesterFile, *, once: bool, external_workers: bool) -> dict[str, int]:
    """Ingest files until asked to stop; with `once`, until nothing is left to do.

    Parameters
    ----------
    config : `IngesterFile`
        The ingester's YAML file.
    once : `bool`
        Stop when no file has a wanted status any more, as ``daemon: false``.
    external_workers : `bool`
        Start no workers; those of `manage.py runworkers` do the work.

    Returns
    -------
    outcomes : `dict` [`str`, `int`]
        Events of this run by status.

    Raises
    ------
    ConfigError
        The plugin, its target or the names cannot be used as configured. Nothing was changed.
    TargetDown
        With `once`: the target did not answer for minutes, and files still wait.
    HeldBack
        With `once`: a person has paused the ingester, and files wait.
    """
    section = config.ingester
    if not external_workers:
        _try_plugin(section)
    with StopSignals() as stop:
        storage = _wait_for_storage(config, stop, once=once)
        if storage is None:
            return {}
        ingester = targets.register(config, storage)
        # A run that is to end takes what was asked for before it began.
        while once and not stop.requested and rerun_jobs.step(ingester.pk):
            pass
        run = targets.Run.begin(ingester, section)
        # Whoever starts it expects it to try.
        probing.probe_now(ingester.pk)
        with Heartbeat.begin(
            ComponentKind.INGESTER,
            ingester.name,
            settings=run.settings(),
            workers=0 if external_workers else section.num_threads,
        ) as heartbeat:
            logger.info(
                "ingester %s (run %d): %s reads storage %s",
                ingester.name,
                heartbeat.id,
                section.plugin.name,
                storage,
            )
            loop = _Loop(ingester, run, heartbeat, once=once)
            if external_workers:
                _with_external_workers(loop, stop, longest_session_s(section))
            else:
                _with_own_workers(loop, stop, ingester, section)
            return _outcomes(loop)


def _outcomes(loop: _Loop) -> dict[str, int]:
    try:
        return loop.outcomes()
    except (DatabaseError, InterfaceError) as error:
        # The run has ended well; that nobody can count what it did is no failure of it.
        outages.away(error)
        return {}


def longest_session_s(section: IngesterSection) -> float:
    """The longest time in seconds that a session may properly take."""
    return SESSION_S + section.batch_size * section.timeout + 120.0


def _with_own_workers(
    loop: _Loop, stop: StopSignals, ingester: Ingester, section: IngesterSection
) -> None:
    queue = f"ingester-{ingester.pk}-{os.uname().nodename}"[:100]
    with Workers(
        queue, section.num_threads, session_timeout_s=longest_session_s(section)
    ) as workers:
        with contextlib.suppress(QueueUnavailable):  # it is done later, and said below
            workers.purge()

        watch = alerts.Watch()

        def wake() -> None:
            workers.check()
            loop.canary_s = workers.canary_age_s()
            watch.step(workers.send)
            if loop.waiting():
                for _ in range(workers.idle() - workers.queued()):
                    workers.send(_SESSION, loop.run_id)

        loop.run(stop, wake)


def _with_external_workers(loop: _Loop, stop: StopSignals, session_s: float) -> None:
    queue = WakeUps(SHARED_QUEUE, WorkerTimeouts.for_session(session_s).timeout)

    watch = alerts.Watch()

    def wake() -> None:
        watch.step(queue.send)
        if loop.waiting():
            for _ in range(idle_external_workers() - queue.waiting()):
                queue.send(_SESSION, loop.run_id)

    loop.run(stop, wake)


def idle_external_workers() -> int:
    """Count the workers of all `runworkers` that have no session now."""
    total = sum(live(ComponentKind.WORKERS).values_list("workers", flat=True))
    return max(0, total - live(ComponentKind.SESSION, run__workers=0).count())


class _Loop:
    """What is done again and again, wherever the workers are."""

    def __init__(
        self, ingester: Ingester, run: targets.Run, heartbeat: Heartbeat, *, once: bool
    ) -> None:
        self.run_id = heartbeat.id
        self._ingester, self._run, self._heartbeat, self._once = ingester, run, heartbeat, once
        self._lanes = run.lanes()
        self._pausable = Pausable(ComponentKind.INGESTER, ingester.name)
        self._opener = Opener(ingester, worker_name())
        self._sweeper = claims.Sweeper(ingester.pk, worker_name())
        self._next_sweep = self._next_look = self._next_job = 0.0
        self._waits = False
        self._rescued = 0
        #: For how long idle workers of our own have left wake-ups waiting; seconds.
        self.canary_s: float | None = None
        self._pause: Pause | None = None
        self._held_back = ""

    def waiting(self) -> bool:
        """Tell whether any file can be claimed now."""
        return self._waits

    def run(self, stop: StopSignals, wake: object) -> None:
        """Go on until asked to stop, or until nothing is left if that is wanted."""
        assert callable(wake)
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
        """Count the events of this run by status."""
        rows = (
            FileEvent.objects.filter(ingester=self._ingester, id__gt=self._run.first_event)
            .values_list("status")
            .annotate(n=Count("id"))
        )
        return dict(sorted(rows))

    def _cycle(self) -> int:
        """Beat, open what has arrived, sweep and ask now and then; tell how many files it was."""
        self._heartbeat.beat(
            message=self._held_back or str(self._pause or ""),
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
            if not opened:
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
            self._waits = may_try and bool(claims.waiting(self._ingester.pk, self._lanes))
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
        if claims.waiting(ingester, self._lanes):
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
        return not claims.anything_due_later(ingester, self._lanes)


def _try_plugin(section: IngesterSection) -> None:
    """Load the plugin once, to tell a wrong configuration from a target that is down."""
    try:
        dotted = plugins.resolve(section.plugin.name, settings.INGEST_PLUGINS)
        host = PluginHost(dotted, section.plugin.config)
        try:
            host.start()
        finally:
            host.close()
    except PluginConfigError as error:
        raise ConfigError(f"ingester.plugin: {error}") from None
    except PluginUnavailable as error:
        logger.warning("plugin %s cannot be loaded now: %s", section.plugin.name, error)


def _wait_for_storage(config: IngesterFile, stop: StopSignals, *, once: bool) -> Storage | None:
    """Find the storage's row, which the finder or backfill makes when it is first started."""
    name = config.database.file_table
    told = False
    while not stop.requested:
        try:
            storage = Storage.objects.filter(name=name).first()
        except outages.UNAVAILABLE as error:
            if once:
                raise
            outages.away(error)
            stop.wait(1.0)
            continue
        if storage is not None:
            return storage
        hint = f"no storage named '{name}' is known yet: start its finder or backfill"
        if once:
            raise ConfigError(f"database.tablenames.file.table: {hint} first")
        if not told:
            logger.warning("%s; waiting for it", hint)
            told = True
        stop.wait(1.0)
    return None
