"""`manage.py runingester`: its loop, and workers that it keeps awake while files wait."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from buffer import alerts, outages
from buffer.components import Heartbeat, live
from buffer.models import ComponentKind, Storage
from buffer.problems import ConfigError
from buffer.signals import StopSignals
from buffer.wakeups import QueueUnavailable, WakeUps
from buffer.workers import Workers, WorkerTimeouts
from ingest import plugins, probing, rerun_jobs, targets
from ingest.config import IngesterFile, IngesterSection
from ingest.loop import Loop
from ingest.models import Ingester
from ingest.plugin_host import PluginHost, PluginUnavailable
from ingest.plugins.base import PluginConfigError
from ingest.sessions import SESSION_S, ingester_session

logger = logging.getLogger(__name__)

#: The queue that `manage.py runworkers` reads, on any host.
SHARED_QUEUE: Final = "ingest"
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
    """The longest time in seconds that a session may properly take."""
    return SESSION_S + section.batch_size * section.timeout + 120.0


def _with_own_workers(
    loop: Loop, stop: StopSignals, ingester: Ingester, section: IngesterSection
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


def _with_external_workers(loop: Loop, stop: StopSignals, session_s: float) -> None:
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
