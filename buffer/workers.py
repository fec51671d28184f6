"""A command's own workers: an embedded django-q2 cluster that is watched and always stops.

`Workers` is the parent's side; `stopping` and `beat` are for the sessions that run in the workers.
What the processes share is in `buffer.board`, what runs in them in `buffer.cluster`.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from types import TracebackType
from typing import Any, Self

from django.db import connections

from buffer import processes
from buffer.board import Board, beat, stopping
from buffer.wakeups import WakeUps, WorkerTimeouts
from buffer.watchdog import Finding, Watchdog

logger = logging.getLogger(__name__)

__all__ = ["Workers", "beat", "stopping"]

START_S = 30.0
# Before a restart, sessions get this long to give back what they have claimed.
HAND_BACK_S = 5.0
# Longest pause before a cluster that keeps dying is started again.
MAX_PAUSE_S = 10.0


class Workers:
    """An embedded cluster of `count` workers that read one queue; use it as a context manager.

    One per process, started and stopped in the main thread, outside transactions: before each
    (re)start the parent's database connections are closed, because the children would otherwise
    share them.

    Parameters
    ----------
    queue
        Name of the queue.
    count
        Number of workers.
    session_timeout_s
        Longest proper duration of a session; see `WorkerTimeouts`.
    poll_s
        How often an empty queue in the database is looked at (Redis needs no polling).
    canary_s
        A wake-up that no idle worker takes for this long proves that something is frozen.
    grace_s
        How long leaving the context waits for sessions to finish.
    timeouts
        Instead of those derived from `session_timeout_s`.

    Attributes
    ----------
    wakeups
        The queue: what is sent there, a worker takes, which need not be ours.
    """

    def __init__(
        self,
        queue: str,
        count: int,
        *,
        session_timeout_s: float,
        poll_s: float = 0.2,
        canary_s: float = 10.0,
        grace_s: float = 10.0,
        timeouts: WorkerTimeouts | None = None,
    ) -> None:
        if count < 1:
            raise ValueError(f"number of workers: expected 1 or more, got {count}")
        self.queue = queue
        self.count = count
        self.poll_s = poll_s
        self.canary_s = canary_s
        self.grace_s = grace_s
        self.timeouts = timeouts or WorkerTimeouts.for_session(session_timeout_s)
        self.restarts = 0
        self._board = Board(count)
        self._process: Any = None
        self._wanted = False
        self._started_at = self._start_after = 0.0
        self._quick_restarts = 0
        self.wakeups = WakeUps(queue, self.timeouts.timeout)
        self._watchdog = Watchdog(self._board, self.wakeups, canary_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(self.grace_s)

    # Starting and stopping

    def start(self) -> None:
        """Start the workers.

        Raises
        ------
        RuntimeError
            If the cluster does not come up.
        """
        if self._process is not None:
            raise RuntimeError(f"queue {self.queue}: workers were started already")
        self._wanted = True
        # Not earlier: imports django-q2, which reads the settings when it is imported.
        from buffer import cluster

        cluster.configure(self.queue, self.count, self.timeouts, self.poll_s)
        self._board = Board(self.count)
        # A child that inherits a connection closes it for its parent too.
        connections.close_all()
        self._process = cluster.sentinel_process(self._board, self.queue, self.timeouts)
        atexit.register(self._kill)  # else multiprocessing waits for the sentinel for ever
        try:
            self._process.start()
            cluster.await_sentinel(self._board, self._process, START_S)
        except BaseException:
            self._kill()
            raise
        self._watchdog = Watchdog(self._board, self.wakeups, self.canary_s)
        self._started_at = time.monotonic()

    def request_stop(self) -> None:
        """Ask the sessions to give back what they have not started, and the cluster to end."""
        self._wanted = False
        self._board.flag("stop").set()

    def stop(self, grace_s: float) -> bool:
        """Stop the workers; afterwards none of their processes is left.

        Parameters
        ----------
        grace_s
            How long sessions may take to finish before everything is killed.

        Returns
        -------
        bool
            False if something had to be killed.
        """
        self.request_stop()
        if self._process is None:
            return True
        end = time.monotonic() + grace_s
        while not (gone := processes.has_exited(self._process.pid)) and time.monotonic() < end:
            time.sleep(0.02)
        if not gone:
            busy = [str(slot.pid) for slot in self._board.workers if slot.busy_since]
            logger.warning(
                "queue %s: workers not done %.0f s after they were asked to stop were killed%s",
                self.queue,
                grace_s,
                f" (in a session: {', '.join(busy)})" if busy else "",
            )
        self._kill()
        return gone

    def restart(self, reason: str) -> None:
        """Replace the whole cluster and log why.

        A cluster that keeps dying is started again after longer and longer pauses; then `check`
        does it.

        Parameters
        ----------
        reason
            For the log.
        """
        logger.warning("queue %s: workers are being restarted: %s", self.queue, reason)
        self.restarts += 1
        self._hand_back()
        self._kill()
        now = time.monotonic()
        self._quick_restarts = self._quick_restarts + 1 if now - self._started_at < 30 else 0
        pause = 2.0 ** (self._quick_restarts - 3) if self._quick_restarts > 3 else 0.0
        self._start_after = now + min(MAX_PAUSE_S, pause)
        if not pause:
            self._start_again()

    def alive(self) -> bool:
        """Tell whether the cluster runs."""
        return self._process is not None and not processes.has_exited(self._process.pid)

    # Watching

    def idle(self) -> int:
        """Count our workers that wait for a task."""
        return sum(slot.pid != 0 and not slot.busy_since for slot in self._board.workers)

    def canary_age_s(self) -> float:
        """Tell for how long idle workers have left wake-ups waiting; seconds."""
        return self._watchdog.canary_age_s()

    def pids(self) -> dict[str, list[int]]:
        """List all our processes.

        Returns
        -------
        dict
            Pids under "sentinel", "monitor", "pusher", "worker" and "other", which is whatever
            the workers have started.
        """
        roles = {**self._board.pids(), "other": []}
        if not self.alive():
            return {role: [] for role in roles}
        known = {pid for pids in roles.values() for pid in pids}
        below = processes.descendants(self._process.pid)
        return {**roles, "other": [p.pid for p in below if p.pid not in known]}

    def check(self) -> str | None:
        """Look for what has died or frozen, and put it right; call it every second or so.

        Returns
        -------
        str or None
            What was wrong, if anything was.
        """
        if not self._wanted:
            return None
        if self._process is None:
            if time.monotonic() >= self._start_after:
                self._start_again()
            return None
        if processes.has_exited(self._process.pid):
            finding: Finding | None = Finding("their sentinel died")
        else:
            finding = self._watchdog.look()
        if finding is None:
            return None
        if not finding.pids:
            self.restart(finding.reason)
        else:
            pids = ", ".join(str(pid) for pid in finding.pids)
            logger.warning("queue %s: %s; being replaced: %s", self.queue, finding.reason, pids)
            for pid in finding.pids:
                self._kill_one(pid)
        return finding.reason

    # Details

    def _start_again(self) -> None:
        try:
            self.start()
        except (OSError, RuntimeError) as error:
            self._start_after = time.monotonic() + MAX_PAUSE_S
            logger.error("queue %s: workers cannot be started: %s", self.queue, error)

    def _hand_back(self) -> None:
        self._board.flag("stop").set()
        end = time.monotonic() + HAND_BACK_S
        while self.alive() and time.monotonic() < end:
            if not any(slot.busy_since for slot in self._board.workers):
                return
            time.sleep(0.02)

    def _kill_one(self, pid: int) -> None:
        process = processes.read_process(pid)
        if process is not None and process.parent == self._process.pid:
            process.kill()

    def _kill(self) -> None:
        """Kill and reap the sentinel and everything below it."""
        process, self._process = self._process, None
        atexit.unregister(self._kill)
        if process is None or process.pid is None or process._parent_pid != os.getpid():
            return
        # Plugins have sessions of their own; they die with their worker, what they forked does not.
        left = processes.kill_family(process.pid)
        process.join(5)
        if left:
            pids = ", ".join(str(survivor.pid) for survivor in left)
            logger.error("queue %s: processes that cannot be killed: %s", self.queue, pids)
