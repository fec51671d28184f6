"""`manage.py runingester`: its loop, and workers that it keeps awake while files wait."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from buffer import alerts, outages
from buffer.components import Heartbeat, live
from buffer.models import ComponentKind, Storage
from buffer.problems import ConfigError
from buffer.signals import StopSignals
from buffer.wakeups import QueueUnavailable, WakeUps, WorkerTimeouts
from buffer.workers import Workers
from ingest import plugins, probing, rerun_jobs, targets
from ingest.attempt import MAX_FAILED_QUESTIONS
from ingest.config import IngesterFile, IngesterSection
from ingest.host_errors import PluginUnavailable
from ingest.loop import Loop
from ingest.models import Ingester
from ingest.pace import GIVE_BACK_AFTER_S
from ingest.plugin_host import LOAD_TIMEOUT_S, PluginHost
from ingest.plugins.base import PluginConfigError
from ingest.sessions import SESSION_S, ingester_session

logger = logging.getLogger(__name__)

#: The queue that `manage.py runworkers` reads, on any host.
SHARED_QUEUE: Final = "ingest"
#: While files wait: how often to look whether any `manage.py runworkers` runs, and for how long
#: there may be none before it is said; seconds.
LOOK_FOR_CREW_S: Final = 5.0
CREW_ABSENT_S: Final = 30.0
NO_CREW: Final = (
    "files wait, and no manage.py runworkers is running on any host: start it, or start this"
    " ingester without --external-workers"
)
_SESSION: Final = f"{ingester_session.__module__}.{ingester_session.__qualname__}"


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
            loop = Loop(ingester, run, heartbeat, once=once)
            if external_workers:
                _with_external_workers(loop, stop, longest_session_s(section))
            else:
                _with_own_workers(loop, stop, ingester, section)
            return _outcomes(loop)


def _outcomes(loop: Loop) -> dict[str, int]:
    try:
        return loop.outcomes()
    except (DatabaseError, InterfaceError) as error:
        # The run has ended well; that nobody can count what it did is no failure of it.
        outages.away(error)
        return {}


def longest_session_s(section: IngesterSection) -> float:
    """The longest time in seconds that a session may properly take.

    That is when each file of a batch uses up its time twice, together with the others and then
    alone, and a plugin host has to be started for each; with some questions to the target. Batches
    that are claimed with others are begun soon, or not at all.
    """
    calls = 2 * section.batch_size + 2 * MAX_FAILED_QUESTIONS
    return SESSION_S + GIVE_BACK_AFTER_S + calls * (section.timeout + LOAD_TIMEOUT_S)


def _with_own_workers(
    loop: Loop, stop: StopSignals, ingester: Ingester, section: IngesterSection
) -> None:
    queue = f"ingester-{ingester.pk}-{os.uname().nodename}"[:100]
    workers = Workers(queue, section.num_threads, session_timeout_s=longest_session_s(section))
    with contextlib.suppress(QueueUnavailable):  # it is done later, and said below
        # Before any worker is there to take what a killed run has left.
        workers.wakeups.purge()
    with workers:
        watch = alerts.Watch()

        def wake() -> None:
            workers.check()
            loop.canary_s = workers.canary_age_s()
            watch.step(workers.wakeups.send)
            if loop.waiting():
                for _ in range(workers.idle() - workers.wakeups.waiting()):
                    workers.wakeups.send(_SESSION, loop.run_id)

        loop.run(stop, wake)


def _with_external_workers(loop: Loop, stop: StopSignals, session_s: float) -> None:
    queue = WakeUps(SHARED_QUEUE, WorkerTimeouts.for_session(session_s).timeout)
    crew = _Crew()

    watch = alerts.Watch()

    def wake() -> None:
        watch.step(queue.send)
        loop.lacks = crew.lacks(loop.waiting())
        if loop.waiting():
            for _ in range(idle_external_workers() - queue.waiting()):
                queue.send(_SESSION, loop.run_id)

    loop.run(stop, wake)


class _Crew:
    """Whether there is anybody to wake, looked at now and then while files wait."""

    def __init__(self) -> None:
        self._next = 0.0
        self._gone_since: float | None = None
        self._said = ""

    def lacks(self, waiting: bool) -> str:
        """Say for an operator what is missing; log it once."""
        now = time.monotonic()
        if not waiting:
            self._gone_since = None
        elif now >= self._next:
            self._next = now + LOOK_FOR_CREW_S
            if live(ComponentKind.WORKERS).exists():
                self._gone_since = None
            elif self._gone_since is None:
                self._gone_since = now
        if self._gone_since is None or now < self._gone_since + CREW_ABSENT_S:
            self._said = ""
        elif not self._said:
            self._said = NO_CREW
            logger.warning("%s", NO_CREW)
        return self._said


def idle_external_workers() -> int:
    """Count the workers of all `runworkers` that have no session now."""
    total = sum(live(ComponentKind.WORKERS).values_list("workers", flat=True))
    return max(0, total - live(ComponentKind.SESSION, run__workers=0).count())


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
