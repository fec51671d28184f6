"""django-q2's cluster, made so that any of its processes may die at any moment and is replaced.

As published it freezes for good when a process is killed while holding one of the locks in its
queues, events and timers; an idle worker always holds one. Here `buffer.packets` and
`buffer.board` take their place, which have none.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from django import db
from django_q import cluster
from django_q.brokers import Broker, get_broker
from django_q.conf import Conf
from django_q.monitor import monitor
from django_q.pusher import pusher
from django_q.worker import worker

from buffer import board, processes
from buffer.board import FIRST_WORKER, MONITOR, PUSHER, SENTINEL, Board
from buffer.packets import Deadline, PacketQueue
from buffer.wakeups import WakeUps, WorkerTimeouts
from buffer.watchdog import Watchdog

logger = logging.getLogger(__name__)

GUARD_CYCLE_S = 0.25
# How long the pusher may take to notice the stop: with Redis it looks every second.
PUSHER_STOP_S = 2.5
# The monitor gives a sign of life every second unless it waits for the broker.
MONITOR_STOP_S = 2.5


def configure(queue: str, count: int, timeouts: WorkerTimeouts, poll_s: float) -> None:
    """Set django-q2's options for this process and those it forks.

    They are attributes of a class that read the settings when it was imported. Hosts that share a
    queue have the same ones, except for the number of workers.
    """
    Conf.CLUSTER_NAME = queue
    Conf.WORKERS = count
    Conf.TIMEOUT, Conf.RETRY = timeouts
    Conf.POLL = poll_s
    Conf.QUEUE_LIMIT = Conf.BULK = Conf.MAX_ATTEMPTS = 1
    Conf.SAVE_LIMIT = -1
    Conf.ACK_FAILURES = True
    Conf.RECYCLE = 100_000
    Conf.SCHEDULER = False


class PatientBroker(Broker):  # type: ignore[misc]
    """The configured broker, whose absence kills nobody and is logged once.

    Connects in the process that uses it, when it first does.
    """

    def __init__(self, queue: str) -> None:
        self.list_key = queue
        self.cache = None
        self._info = None
        self._broker: Broker | None = None
        self._away = False

    def ping(self) -> bool:
        return True

    def set_stat(self, key: str, value: str, timeout: int) -> None:
        """Keep no statistics: the commands have heartbeats of their own."""

    def dequeue(self) -> list[tuple[Any, Any]] | None:
        board.waiting()
        tasks: list[tuple[Any, Any]] | None = self._try(lambda broker: broker.dequeue())
        if self._away:
            time.sleep(1)
        return tasks

    def acknowledge(self, task_id: Any) -> None:
        # A lost acknowledgement only means that the task comes again, and finds nothing to do.
        self._try(lambda broker: broker.acknowledge(task_id))

    def fail(self, task_id: Any) -> None:
        self._try(lambda broker: broker.fail(task_id))

    def _try(self, ask: Callable[[Broker], Any]) -> Any:
        try:
            if self._broker is None:
                self._broker = get_broker(self.list_key)
            answer = ask(self._broker)
        except Exception as error:
            db.connections.close_all()
            if not self._away:
                logger.warning(
                    "queue %s: broker not available, trying again every second: %s",
                    self.list_key,
                    " ".join(str(error).split()),
                )
            self._away = True
            return None
        if self._away:
            logger.warning("queue %s: broker available again", self.list_key)
        self._away = False
        return answer


class Sentinel(cluster.Sentinel):  # type: ignore[misc]
    """Starts the workers, the monitor and the pusher, and replaces those that die."""

    def __init__(self, shared: Board, queue: str, timeout_s: int) -> None:
        self.shared = shared
        self.queue = queue
        super().__init__(
            shared.flag("stop"),
            shared.flag("ready"),
            uuid.uuid4(),
            broker=PatientBroker(queue),
            timeout=timeout_s,
            start=False,
        )
        self.task_queue = PacketQueue(handover=True)
        self.result_queue = PacketQueue()
        self.event_out = shared.flag("pusher_stop")
        # Idle workers are the command's business; it may look at the queue too.
        self._watchdog = Watchdog(shared, WakeUps(queue, timeout_s), math.inf)
        self.start()

    def spawn_worker(self) -> None:
        taken = {process.slot for process in self.pool}
        free = (i for i in range(FIRST_WORKER, len(self.shared.slots)) if i not in taken)
        index = next(free)
        timer = Deadline(self.shared.slots[index])
        process = self._fork(
            index,
            f"worker-{index - FIRST_WORKER + 1}",
            worker,
            self.task_queue,
            self.result_queue,
            timer,
            self.timeout,
        )
        process.slot = index
        process.deadline = timer
        self.pool.append(process)

    def spawn_monitor(self) -> Any:
        return self._fork(MONITOR, "monitor", monitor, self.result_queue, self.broker)

    def spawn_pusher(self) -> Any:
        return self._fork(PUSHER, "pusher", pusher, self.task_queue, self.event_out, self.broker)

    def _fork(self, index: int, role: str, target: Callable[..., None], *args: Any) -> Any:
        process = multiprocessing.get_context("fork").Process(
            target=_enter,
            args=(self.shared, index, f"{role}:{self.queue}", os.getpid(), target, *args),
            name=f"{self.queue}-{role}",
            daemon=True,
        )
        # Until the child joins the board its slot must not show the times of its predecessor.
        slot = self.shared.slots[index]
        slot.busy_since, slot.deadline, slot.beat = 0, -1, time.monotonic()
        process.start()
        return process

    def guard(self) -> None:
        """Replace what dies, until asked to stop."""
        self.start_event.set()
        while not self.stop_event.wait(GUARD_CYCLE_S):
            board.beat()
            for process in list(self.pool):
                # A copy, for the successor will use the same slot.
                process.timer = SimpleNamespace(value=process.deadline.value)
                if process.timer.value == 0:
                    process.kill()  # it may not listen to SIGTERM
                    process.join(1)
                    self.reincarnate(process)
                elif not process.is_alive():
                    self.reincarnate(process)
            for process in (self.monitor, self.pusher):
                if not process.is_alive():
                    self.reincarnate(process)
            self._end_silence()
            self._sweep()
        self.stop()

    def _end_silence(self) -> None:
        """Kill whoever is frozen, as the command does: that may wait for a lock which it holds."""
        finding = self._watchdog.listen()
        if finding is None:
            return
        for process in (*self.pool, self.monitor, self.pusher):
            if process.pid in finding.pids:
                logger.warning("queue %s: %s; being replaced", self.queue, finding.reason)
                process.kill()

    def stop(self) -> None:
        """Let the workers finish what they have, then take everything down."""
        self.event_out.set()
        self.pusher.join(PUSHER_STOP_S)
        if self.pusher.is_alive():
            self.pusher.kill()
        if time.monotonic() - self.shared.slots[MONITOR].beat > MONITOR_STOP_S:
            # It waits for a broker that is away, or is frozen. What it would acknowledge comes
            # again and finds nothing to do.
            self.monitor.kill()
        super().stop()
        end = time.monotonic() + 2
        while self._sweep(everybody=True) and time.monotonic() < end:
            time.sleep(0.02)

    def _sweep(self, *, everybody: bool = False) -> int:
        """Kill the orphans that workers left behind, and reap the dead; return the number left.

        An orphan in another session whose leader lives may still serve a plugin: as long as there
        are workers it is left alone.
        """
        own = {process.pid for process in multiprocessing.active_children()}
        ours = os.getsid(0)
        orphans = [p for p in processes.children(os.getpid()) if p.pid not in own]
        left = 0
        for orphan in orphans:
            if orphan.state in "ZX":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(orphan.pid, os.WNOHANG)
                continue
            left += 1
            leader = processes.read_process(orphan.session)
            dead = leader is None or leader.state in "ZX"
            if everybody or dead or orphan.session == ours:
                orphan.kill()
        return left


def sentinel_process(shared: Board, queue: str, timeouts: WorkerTimeouts) -> Any:
    """Make the process (not started yet) that is the sentinel and parent of a cluster."""
    return multiprocessing.get_context("fork").Process(
        target=run_sentinel,
        args=(shared, queue, timeouts.timeout, os.getpid()),
        name=f"{queue}-sentinel",
    )


def await_sentinel(shared: Board, process: Any, within_s: float) -> None:
    """Wait until a sentinel that was started has its cluster running; RuntimeError if not."""
    with contextlib.suppress(OSError):  # it may have been faster
        os.setpgid(process.pid, process.pid)
    ready = shared.flag("ready")
    end = time.monotonic() + within_s
    while not ready.wait(0.1):
        if processes.has_exited(process.pid) or time.monotonic() > end:
            raise RuntimeError(f"{process.name} did not start its workers; see the messages above")


def run_sentinel(shared: Board, queue: str, timeout_s: int, parent: int) -> None:
    """Be the sentinel: the main function of the process that a command forks."""
    with contextlib.suppress(PermissionError):  # the command may have been faster
        os.setpgid(0, 0)  # a signal to the command's group is for the command alone
    _settle(shared, SENTINEL, f"sentinel:{queue}", parent)
    processes.adopt_orphans()
    keep_imported()
    Sentinel(shared, queue, timeout_s)


def keep_imported() -> None:
    """Have the collector of garbage leave out what there is by now, here and in forked processes.

    Else it goes through all that was imported again and again, and writes to its pages, which
    processes share as long as nobody does.
    """
    gc.collect()
    gc.freeze()


def _enter(
    shared: Board, index: int, title: str, parent: int, target: Callable[..., None], *args: Any
) -> None:
    _settle(shared, index, title, parent)
    target(*args)


def _settle(shared: Board, index: int, title: str, parent: int) -> None:
    processes.die_with_parent(parent)
    # The command decides when to stop, and says so on the board.
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    processes.name_process(title)
    shared.join(index)
