"""The loop of `manage.py runfinder`: keeps one worker awake and says what it did."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
from pathlib import Path
from typing import Final

from django.db import DatabaseError, InterfaceError

from buffer import alerts, outages, sqlviews, storages
from buffer.components import Heartbeat, live
from buffer.finder_config import FinderFile
from buffer.locking import Locked, lock_source
from buffer.models import Component, ComponentKind, Storage
from buffer.names import escape
from buffer.sessions import finder_session
from buffer.signals import StopSignals
from buffer.wakeups import QueueUnavailable
from buffer.workers import Workers

logger = logging.getLogger(__name__)

#: A cycle may have to hash files of hundreds of MB from a slow medium; seconds.
LONGEST_SESSION_S: Final = 3600.0
_TICK_S: Final = 0.1
_SESSION: Final = f"{finder_session.__module__}.{finder_session.__qualname__}"


class Blocked(Exception):
    """Nothing can be taken in, and the finder was not asked to wait."""


def run_finder(config: FinderFile, *, once: bool) -> dict[str, int]:
    """Take files in until asked to stop; with `once`, until nothing is left to do.

    Parameters
    ----------
    config : `FinderFile`
        The finder's YAML file.
    once : `bool`
        Stop after a full scan that found nothing to do and nothing to wait for.

    Returns
    -------
    counters : `dict` [`str`, `int`]
        What was done, by kind.

    Raises
    ------
    Locked
        Another finder is at work on this source, or on one of its path on another host.
    Blocked
        With `once`: nothing can be taken in now.
    """
    finder = config.finder
    lock = lock_source(finder.source)
    try:
        storage = storages.register(config.database.file_table, finder.storage, fsync=finder.fsync)
        sqlviews.ensure(sqlviews.storage_view(storage))
        settings = {
            "finder": finder.model_dump(mode="json", by_alias=True),
            "storage": storage.pk,
            "once": once,
        }
        with Heartbeat.begin(
            ComponentKind.FINDER, str(finder.source), settings=settings, workers=1
        ) as heartbeat:
            logger.info(
                "finder %d: %s -> %s", heartbeat.id, escape(finder.source), escape(finder.storage)
            )
            _require_one_host(heartbeat.id, finder.source, storage)
            _loop(heartbeat, _queue(config), once=once)
            return _counters(heartbeat.id)
    finally:
        os.close(lock)


def _require_one_host(run_id: int, source: Path, storage: Storage) -> None:
    """See to it that no other host takes files from a path of this name into the same storage.

    Of two that start together the one whose row is the newer gives up.

    What was begun and what was refused is known by the source's path: a finder would finish, undo
    or close what the other one is at.

    Raises
    ------
    Locked
        One does.
    """
    here = socket.gethostname()
    for row in live(ComponentKind.FINDER, subject=str(source), pk__lt=run_id):
        if row.host != here and row.settings.get("storage") == storage.pk:
            raise Locked(
                f"a finder on host {escape(row.host)} takes files from a source of the same path,"
                f" {escape(source)}, into the same storage area, so that nobody could tell their"
                " records apart: give this one another finder.source (a symbolic link to the buffer"
                " will do), or stop the other one; if it has died, start this one 30 s later"
            )


def _loop(heartbeat: Heartbeat, queue: str, *, once: bool) -> None:
    with (
        StopSignals() as stop,
        Workers(queue, 1, session_timeout_s=LONGEST_SESSION_S) as workers,
    ):
        with contextlib.suppress(QueueUnavailable):  # it is done later, and said below
            workers.wakeups.purge()
        away = False
        watch = alerts.Watch()
        while not stop.requested:
            workers.check()
            heartbeat.beat(canary_s=workers.canary_age_s())
            try:
                # One beyond the running session, so that the next follows at once.
                if workers.wakeups.waiting() == 0:
                    workers.wakeups.send(_SESSION, heartbeat.id)
                watch.step(workers.wakeups.send)
                away = False
            except QueueUnavailable as error:
                if not away:
                    logger.warning("no wake-ups can be sent: %s; trying again", error)
                away = True
                stop.wait(1.0)
            if once and _is_done(heartbeat):
                return
            stop.wait(_TICK_S)


def _is_done(heartbeat: Heartbeat) -> bool:
    row = _row(heartbeat.id)
    if row is not None and row.message:
        raise Blocked(row.message)
    return row is not None and bool(row.counters.get("quiet_scans"))


def _counters(run_id: int) -> dict[str, int]:
    row = _row(run_id)
    return {} if row is None else dict(row.counters)


def _row(run_id: int) -> Component | None:
    """Read what the worker wrote; None while the database does not answer."""
    try:
        return Component.objects.get(pk=run_id)
    except (DatabaseError, InterfaceError) as error:
        outages.away(error)
        return None


def _queue(config: FinderFile) -> str:
    """Name the queue of one finder: only workers on its own host may read it."""
    key = f"{os.uname().nodename}\0{config.finder.source}".encode("utf-8", "surrogateescape")
    return f"finder-{hashlib.blake2b(key, digest_size=6).hexdigest()}"
