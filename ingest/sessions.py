"""What an ingester's worker does when it is woken: batches, for some seconds."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from typing import Final

from django.db import close_old_connections

from buffer import board
from buffer.components import Heartbeat
from buffer.models import Component, ComponentKind
from ingest.checks import StorageUnavailable
from ingest.plugins.base import PluginConfigError
from ingest.targets import Run
from ingest.worker import TargetUnavailable, Worker

logger = logging.getLogger(__name__)

#: How long a session goes on before it returns to the queue, and how often it looks for work while
#: there is none; seconds. A quiet system reacts at once, and holds no worker for ever.
SESSION_S: Final = 10.0
LOOK_EVERY_S: Final = 0.05
#: Pause before a plugin that cannot be loaded, or a storage that is not mounted, is tried again;
#: seconds.
UNAVAILABLE_S: Final = 2.0
#: How often it is looked whether the run that wants it has ended; seconds.
LOOK_AT_RUN_S: Final = 1.0
#: Plugins kept loaded in one worker, which may serve several ingesters.
_KEPT: Final = 3

_said = ""
_workers: OrderedDict[int, Worker] = OrderedDict()


def ingester_session(run_id: int) -> None:
    """Work for one run of an ingester, for a bounded time (a django-q2 task).

    Parameters
    ----------
    run_id : `int`
        Id of the component row of the command that sent it.
    """
    close_old_connections()
    ingester = _under_way(run_id)
    if ingester is None:
        return
    until = time.monotonic() + SESSION_S
    next_look = time.monotonic() + LOOK_AT_RUN_S
    with Heartbeat.begin(ComponentKind.SESSION, ingester, run=run_id) as heartbeat:
        while not board.stopping() and time.monotonic() < until:
            board.beat()
            if time.monotonic() >= next_look:
                if _under_way(run_id) is None:
                    return
                next_look = time.monotonic() + LOOK_AT_RUN_S
            try:
                worker = _worker(run_id)
                done = worker.step()
            except (TargetUnavailable, StorageUnavailable, PluginConfigError) as error:
                if not isinstance(error, TargetUnavailable):  # which the breaker has told
                    _say(str(error))
                heartbeat.beat(message=str(error))
                _rest(UNAVAILABLE_S)
                continue
            _say("")
            heartbeat.beat(message="")
            if worker.paused:
                # The command wakes somebody when a probe is due.
                return
            if not done:
                _rest(LOOK_EVERY_S)


def _under_way(run_id: int) -> str | None:
    """Name the ingester of a run; None if that has ended: what it left in the queue works no more.

    One that was killed counts as ended when the next one has closed its row.
    """
    runs = Component.objects.filter(pk=run_id, stopped_on__isnull=True)
    return runs.values_list("subject", flat=True).first()


def _say(trouble: str) -> None:
    """Log why nothing can be done, once until something else is the case."""
    global _said
    if trouble and trouble != _said:
        logger.warning("%s; looking again every %.0f s", trouble, UNAVAILABLE_S)
    _said = trouble


def _worker(run_id: int) -> Worker:
    found = _workers.get(run_id)
    if found is None:
        found = Worker(Run.load(run_id), stopping=board.stopping, beat=board.beat)
        _workers[run_id] = found
        while len(_workers) > _KEPT:
            _workers.popitem(last=False)[1].close()
    _workers.move_to_end(run_id)
    return found


def _rest(seconds: float) -> None:
    end = time.monotonic() + seconds
    while not board.stopping() and (left := end - time.monotonic()) > 0:
        time.sleep(min(0.1, left))
