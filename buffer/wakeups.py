"""The queue that a command's workers read: sending wake-ups and counting them."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from django.db import OperationalError, connections

from buffer.outages import UNAVAILABLE

MAX_ARGUMENTS_BYTES = 64 * 1024


class QueueUnavailable(OperationalError):
    """The broker (database or Redis) cannot be reached now."""


class WorkerTimeouts(NamedTuple):
    """django-q2's two time limits, in s.

    Attributes
    ----------
    timeout
        A session that lasts longer is interrupted; 3 s later its worker is killed.
    retry
        A task that was fetched but not acknowledged for this long is handed out again.
    """

    timeout: int
    retry: int

    @classmethod
    def for_session(
        cls, session_timeout_s: float, workers: int = 1, queue_limit: int = 1, bulk: int = 1
    ) -> WorkerTimeouts:
        """Derive both from the longest time that a session may properly take.

        The timeout leaves a session 30 s to write its outcomes beyond its own limit: it is only
        a net below the plugin host's limit, and whoever falls into it leaves files UNKNOWN.

        The retry clock runs from the moment a task is *fetched*. Before it starts it may have to
        wait until `queue_limit` + `bulk` tasks fetched before it have gone through all workers,
        each of them up to the timeout, so retry must be at least
        ``timeout * (1 + ceil((queue_limit + bulk) / workers))``; 60 s allow for the clocks of
        several hosts, a slow start and the acknowledgement. (With less, django-q2 ran 8 of 10
        tasks twice. Our tasks only wake workers, so that would be waste rather than harm.)

        Hosts that share a queue must agree on retry, but may have other numbers of workers:
        `Workers` therefore always asks for one worker, which is the longest.

        Parameters
        ----------
        session_timeout_s
            Longest proper duration of a session.
        workers, queue_limit, bulk
            As in django-q2's configuration.

        Returns
        -------
        WorkerTimeouts
            For example 90 s and 330 s for a session of 60 s.
        """
        timeout = math.ceil(session_timeout_s) + 30
        waits = 1 + math.ceil((queue_limit + bulk) / workers)
        return cls(timeout, timeout * waits + 60)


class WakeUps:
    """One queue at the configured broker (the database or Redis).

    Works in any process, whether or not it has workers of its own.

    Parameters
    ----------
    queue
        Its name.
    timeout_s
        What django-q2 should allow each task.
    """

    def __init__(self, queue: str, timeout_s: int) -> None:
        self.queue = queue
        self.timeout_s = timeout_s
        #: Monotonic time of the oldest wake-up of which nothing was seen yet; 0 if there is none.
        self.sent_at = 0.0
        self._broker: Any = None  # kept: a new one means a new connection to Redis
        self._to_purge = False

    def send(self, func: str, *args: Any) -> None:
        """Put one task on the queue; the workers need not be our own, nor run already.

        Parameters
        ----------
        func
            Dotted path of the function to call.
        args
            Its arguments: small and picklable.

        Raises
        ------
        QueueUnavailable
            If the broker cannot be reached.
        """
        if (size := len(pickle.dumps(args))) > MAX_ARGUMENTS_BYTES:
            raise ValueError(
                f"arguments of {func}: expected at most {MAX_ARGUMENTS_BYTES} bytes, got {size}"
            )
        from django_q.tasks import async_task

        self._purge_if_due()

        def enqueue(broker: Any) -> None:
            # As q_options: async_task would swallow keywords of the function.
            options = {
                "broker": broker,
                "save": False,
                "ack_failure": True,
                "timeout": self.timeout_s,
            }
            async_task("buffer.board.run", func, *args, q_options=options)

        self._ask(enqueue)
        self.sent_at = self.sent_at or time.monotonic()

    def waiting(self) -> int:
        """Count the tasks that nobody has fetched yet; QueueUnavailable if that can't be said."""
        self._purge_if_due()
        return int(self._ask(lambda broker: broker.queue_size()))

    def notice_others(self) -> None:
        """Take a wake-up of another command that waits as if we had sent it now.

        To be called every few seconds by a command that sends none itself; it asks the broker.

        Raises
        ------
        QueueUnavailable
            If the broker cannot be reached.
        """
        if not self.sent_at and self.waiting():
            self.sent_at = time.monotonic()

    def purge(self) -> None:
        """Remove all tasks; if the broker is away (QueueUnavailable), before it is next used."""
        self._to_purge, self.sent_at = True, 0.0
        self._purge_if_due()

    def _purge_if_due(self) -> None:
        if self._to_purge:
            self._ask(lambda broker: broker.purge_queue())
            self._to_purge = False

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """Put a question to the broker; once more if its connection turns out to be lost."""
        from django_q.brokers import get_broker

        for attempt in (1, 2):
            try:
                if self._broker is None:
                    self._broker = get_broker(self.queue)
                return question(self._broker)
            except _connection_errors() as error:
                self._broker = None
                open_connections = connections.all(initialized_only=True)
                if attempt == 2 or any(c.in_atomic_block for c in open_connections):
                    cause = " ".join(str(error).split())
                    raise QueueUnavailable(
                        f"queue {self.queue}: broker not available: {cause}"
                    ) from error
                connections.close_all()
        raise AssertionError("not reached")


def _connection_errors() -> tuple[type[Exception], ...]:
    try:
        from redis.exceptions import RedisError
    except ImportError:  # only needed where Redis is the broker
        return UNAVAILABLE
    return *UNAVAILABLE, RedisError
