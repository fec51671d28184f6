"""Workers on any host, for ingesters that start none of their own."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from typing import Final

from buffer.components import Heartbeat
from buffer.models import ComponentKind
from buffer.signals import StopSignals
from buffer.wakeups import QueueUnavailable
from buffer.workers import Workers
from ingest.ingester import SHARED_QUEUE

logger = logging.getLogger(__name__)

#: Hosts that share a queue must agree on django-q2's timeouts, so that they cannot follow each
#: ingester's. The plugin host's own deadline is what ends an attempt; this is the net below it.
LONGEST_SESSION_S: Final = 24 * 3600.0
#: How often to look whether wake-ups wait that no idle worker takes; seconds.
LOOK_EVERY_S: Final = 5.0


def run_workers(count: int) -> None:
    """Work for all ingesters until asked to stop.

    Parameters
    ----------
    count : `int`
        Number of workers on this host.
    """
    with (
        StopSignals() as stop,
        Heartbeat.begin(ComponentKind.WORKERS, socket.gethostname(), workers=count) as heartbeat,
        Workers(SHARED_QUEUE, count, session_timeout_s=LONGEST_SESSION_S) as workers,
    ):
        logger.info("%d workers read the queue %s", count, SHARED_QUEUE)
        next_look = 0.0
        while not stop.requested:
            workers.check()
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + LOOK_EVERY_S
                _notice_others(workers)
            heartbeat.beat(canary_s=workers.canary_age_s())
            stop.wait(0.5)


def _notice_others(workers: Workers) -> None:
    """Have the canary watch the wake-ups of the ingesters: nobody here sends any."""
    if workers.idle():
        # A broker that is away is no fault of the workers, and its users say so.
        with contextlib.suppress(QueueUnavailable):
            workers.wakeups.notice_others()
