"""A queue and a timer for django-q2's processes that work without locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import pickle
import select
import socket
import struct
import termios
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from buffer import board
from buffer.board import Slot

logger = logging.getLogger(__name__)

# The kernel's default buffer of a socket (net.core.wmem_default) is a little over 200 kB.
MAX_PACKET_BYTES = 128 * 1024


class PacketQueue:
    """A queue between processes: a socket pair on which one packet is one item.

    The kernel gives each packet to exactly one reader, whole, and needs no lock for it.

    Parameters
    ----------
    handover
        `put` returns only when a reader has taken the item (or the cluster stops), so that at
        most one task is fetched ahead; others may be free to take what waits at the broker.
    """

    def __init__(self, *, handover: bool = False) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._handover = handover

    def put(self, item: Any) -> None:
        try:
            self._writer.send(self._packed(item))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            logger.error("a task of django-q2 is too large for its queue and was dropped")
            return
        pause = 0.002
        while self._handover and not self.empty() and not board.stopping():
            board.waiting()
            time.sleep(pause)
            pause = min(0.05, pause * 1.5)

    def get(self) -> Any:
        readable = select.poll()
        readable.register(self._reader, select.POLLIN)
        while True:
            board.waiting()
            if readable.poll(1000):
                # Others are woken too: one of them may have been faster.
                with contextlib.suppress(BlockingIOError):
                    packet = self._reader.recv(2 * MAX_PACKET_BYTES, socket.MSG_DONTWAIT)
                    board.took()
                    return pickle.loads(packet)

    def empty(self) -> bool:
        unread = fcntl.ioctl(self._writer, termios.TIOCOUTQ, struct.pack("i", 0))
        return bool(struct.unpack("i", unread)[0] == 0)

    def qsize(self) -> int:
        return 0 if self.empty() else 1

    def close(self) -> None:
        """Do nothing: there is no feeder thread."""

    join_thread = close

    @staticmethod
    def _packed(item: Any) -> bytes:
        try:
            return pickle.dumps(item)
        except Exception as error:  # only a task's result can be unpicklable
            return pickle.dumps({**item, "result": f"unpicklable result: {error}"})


class Deadline:
    """The time at which a worker's task is overdue, as django-q2's ``timer``.

    django-q2 sets ``value`` to the seconds that a task may take, -1 when idle, -2 when the worker
    is to be replaced and 0 when the task timed out. Its sentinel counts the seconds down under a
    lock; kept as a point in time there is nothing to count.
    """

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def get_lock(self) -> AbstractContextManager[None]:
        return nullcontext()

    @property
    def value(self) -> float:
        deadline = self._slot.deadline
        return max(0.0, deadline - time.monotonic()) if deadline > 0 else deadline

    @value.setter
    def value(self, seconds: float) -> None:
        self._slot.deadline = time.monotonic() + seconds if seconds > 0 else seconds
