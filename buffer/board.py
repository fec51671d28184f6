"""Memory that a command shares with its workers: who is there, what they do, whether to stop.

Nothing here has a lock. A process killed while it holds a lock would freeze all others for ever;
so every field has one writer, and is written in one store.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.utils.module_loading import import_string

from buffer import outages

logger = logging.getLogger(__name__)

SENTINEL, MONITOR, PUSHER, FIRST_WORKER = range(4)
_AWAY_PAUSE_S = 1.0


class Slot(ctypes.Structure):
    """What one process says of itself; times are of the system-wide monotonic clock, in s."""

    pid: int
    sessions: int  # tasks taken so far, by all who had this slot
    busy_since: float  # 0: waiting for a task
    beat: float  # last sign of life
    beats: int  # signs of life that the session itself gave
    deadline: float  # see cluster.Deadline

    _fields_ = [
        ("pid", ctypes.c_int64),
        ("sessions", ctypes.c_int64),
        ("busy_since", ctypes.c_double),
        ("beat", ctypes.c_double),
        ("beats", ctypes.c_int64),
        ("deadline", ctypes.c_double),
    ]


class Board:
    """One slot for each process of a cluster, and flags.

    Parameters
    ----------
    count
        Number of workers.
    """

    FLAGS = ("ready", "stop", "pusher_stop")

    def __init__(self, count: int) -> None:
        size = FIRST_WORKER + count
        flags = len(self.FLAGS) * ctypes.sizeof(ctypes.c_int64)
        memory = mmap.mmap(-1, flags + size * ctypes.sizeof(Slot))  # shared by those who fork
        self._flags: Any = (ctypes.c_int64 * len(self.FLAGS)).from_buffer(memory)
        self.slots: list[Slot] = list((Slot * size).from_buffer(memory, flags))

    @property
    def workers(self) -> list[Slot]:
        """The workers' slots."""
        return self.slots[FIRST_WORKER:]

    def pids(self) -> dict[str, list[int]]:
        """List by role the pids of those that have joined: 0 would be a signal to ourselves."""
        slots = {
            "sentinel": [self.slots[SENTINEL]],
            "monitor": [self.slots[MONITOR]],
            "pusher": [self.slots[PUSHER]],
            "worker": self.workers,
        }
        return {role: [slot.pid for slot in taken if slot.pid] for role, taken in slots.items()}

    def flag(self, name: str) -> Flag:
        """Give one of FLAGS, with the methods of an Event."""
        return Flag(self._flags, self.FLAGS.index(name))

    @property
    def stopping(self) -> bool:
        """Whether the workers were asked to stop."""
        return bool(self._flags[self.FLAGS.index("stop")])

    def join(self, index: int) -> None:
        """Take a slot: from here on `beat` and `stopping` of this process speak of it."""
        global _board, _slot
        _board = self
        _slot = slot = self.slots[index]
        slot.busy_since = slot.beats = 0
        slot.deadline = -1
        slot.beat = time.monotonic()
        slot.pid = os.getpid()


class Flag:
    """An Event without a lock; waiting looks at it every 20 ms."""

    def __init__(self, flags: Any, index: int) -> None:
        self._flags = flags
        self._index = index

    def is_set(self) -> bool:
        return bool(self._flags[self._index])

    def set(self) -> None:
        self._flags[self._index] = 1

    def wait(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        while not self.is_set() and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.02, left))
        return self.is_set()


_board: Board | None = None
_slot: Slot | None = None


def stopping() -> bool:
    """Tell a session whether it should give back what it has not started, and return.

    False in a process that is not a worker.
    """
    return _board is not None and _board.stopping


def beat() -> None:
    """Say that this session is alive.

    It must do so more often than ``watchdog.BUSY_SILENCE_S``: else its worker is taken for frozen
    and killed. Costs a microsecond; nothing outside a worker.
    """
    if _slot is not None:
        _slot.beat = time.monotonic()
        _slot.beats += 1


def alive() -> None:
    """Say that this process is alive, though it waits for somebody else; costs no obligation."""
    if _slot is not None:
        _slot.beat = time.monotonic()


@contextmanager
def beating() -> Iterator[None]:
    """Give signs of life from a thread, for a session that waits long for a medium.

    They say that the process is neither stopped nor dead, not that the session gets on.
    """
    done = threading.Event()

    def go_on() -> None:
        while not done.wait(1.0):
            beat()

    thread = threading.Thread(target=go_on, name="beating", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def waiting() -> None:
    """Say that this process is alive and has nothing to do."""
    if _slot is not None:
        _slot.busy_since = 0
        _slot.beat = time.monotonic()


def took() -> None:
    """Say that this process has taken a task."""
    if _slot is not None:
        _slot.beats = 0
        _slot.beat = _slot.busy_since = time.monotonic()
        _slot.sessions += 1


def run(name: str, *args: object) -> None:
    """Run one session in a worker: what django-q2 calls for every task.

    An exception is logged and goes no further: the loop that sent the task will send another,
    while django-q2 would keep a row of each failure for ever. A database that is away is no
    failure of the session.

    Parameters
    ----------
    name
        Dotted path of the function.
    args
        Its arguments.
    """
    beat()
    try:
        import_string(name)(*args)
    except outages.UNAVAILABLE as error:
        outages.away(error)
        # With another broker the next session may be here already.
        end = time.monotonic() + _AWAY_PAUSE_S
        while not stopping() and time.monotonic() < end:
            time.sleep(0.1)
    except Exception:
        logger.exception("a worker's session failed in %s; the next one starts afresh", name)
