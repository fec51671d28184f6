"""Waiting for PostgreSQL: never deaf to a stop, never for ever, never without a word.

psycopg2 by itself waits in C, where no signal is heard: a server that hangs (its disk does, its
machine is paused) would keep a command from stopping, and nobody would know why. What psycopg2
calls instead of that is here. SQLite needs none: it waits for a lock no longer than its timeout.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from psycopg2 import OperationalError, extensions

from buffer import board, signals

logger = logging.getLogger(__name__)

#: A wait for so long is worth a line in the log; seconds.
SAY_AFTER_S: Final = 5.0
#: How long a statement may go on once a stop was asked for, and the next ones after it had to be
#: given up; seconds.
STOP_S: Final = 2.0
NEXT_STOP_S: Final = 0.25
#: If the URL does not say; libpq leaves it to us when it does not wait itself. Seconds.
CONNECT_TIMEOUT_S: Final = 10.0
_LOOK_S: Final = 0.25

_until = math.inf
_gave_up = False


@contextmanager
def until(moment: float) -> Iterator[None]:
    """Wait no longer than to a time of the monotonic clock, in this block.

    What is not answered then raises `django.db.OperationalError`, and its connection is lost.
    """
    global _until
    before, _until = _until, min(_until, moment)
    try:
        yield
    finally:
        _until = before


def install() -> None:
    """Have psycopg2 wait here, in this process and those it forks."""
    extensions.set_wait_callback(wait)


def wait(connection: Any) -> None:
    """Wait until a connection has done what it was asked to."""
    state = connection.poll()
    if state == extensions.POLL_OK:
        return
    waited = _Wait(connection)
    while state != extensions.POLL_OK:
        event = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
        poll = select.poll()  # while it connects, the descriptor may change
        poll.register(connection.fileno(), event)
        if not poll.poll(1000 * _LOOK_S):
            waited.look()
        else:
            state = connection.poll()


class _Wait:
    """One wait that has begun."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._begun = time.monotonic()
        self._stop_seen = math.inf
        self._say_at = self._begun + SAY_AFTER_S

    def look(self) -> None:
        """Give up if there is a reason to."""
        global _gave_up
        now = time.monotonic()
        board.alive()
        if _stopping():
            self._stop_seen = min(self._stop_seen, now)
            if now > self._stop_seen + (NEXT_STOP_S if _gave_up else STOP_S):
                _gave_up = True
                self._give_up(now, ", and it was asked to stop")
        if now > _until:
            self._give_up(now, ", and what it was to write would come too late")
        if self._connection.status == _CONNECTING and now > self._begun + self._connect_timeout():
            self._give_up(now, " to a connection")
        if now > self._say_at:
            self._say_at = now + 12 * SAY_AFTER_S
            logger.warning("the database has not answered for %.0f s; waiting", now - self._begun)

    def _give_up(self, now: float, why: str) -> None:
        raise OperationalError(f"the database has not answered for {now - self._begun:.0f} s{why}")

    def _connect_timeout(self) -> float:
        given = extensions.parse_dsn(self._connection.dsn).get("connect_timeout", "")
        return float(given) if str(given).isdigit() and int(given) else CONNECT_TIMEOUT_S


#: The status of a connection that is being made; psycopg2 has no name for it.
_CONNECTING: Final = 20


def _stopping() -> bool:
    return signals.stop_requested() or board.stopping()
