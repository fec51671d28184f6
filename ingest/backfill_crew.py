"""Chunks of backfill handed out to workers, and the receipts by which they come back.

A receipt is a row that a worker writes in the very transaction in which it records a chunk's
files. So what is done is known from the database alone: a chunk without a receipt was not
recorded, whatever the queue says, and doing one twice does no harm.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.db.models.functions import Now

from buffer import __version__
from buffer import steps as protocol
from buffer.models import Component, ComponentKind
from buffer.names import escape
from buffer.workers import Workers
from ingest.backfill_sources import Candidate

logger = logging.getLogger(__name__)

#: Workers that had nothing to do for so long while chunks were out have lost them.
LOST_AFTER_S: Final = 2.0
#: A chunk that was lost so often kills whoever works on it.
MOST_TIMES_SENT: Final = 5


@dataclass(slots=True)
class Chunk:
    """Some files for one worker.

    Parameters
    ----------
    number : `int`
        Its number in this run.
    session : `str`
        Dotted name of the function that is to work on it.
    candidates : `~collections.abc.Sequence` [`Candidate`]
        The files.
    """

    number: int
    session: str
    candidates: Sequence[Candidate]
    times_sent: int = 0

    @property
    def size_bytes(self) -> int:
        """Size of its files."""
        return sum(candidate.size_bytes for candidate in self.candidates)

    def __len__(self) -> int:
        return len(self.candidates)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a chunk.

    Parameters
    ----------
    chunk : `Chunk`
        The chunk.
    counters : `~collections.abc.Mapping` [`str`, `int`]
        What was done, by kind.
    blocked : `str`
        Why nothing can be done at all; '' if it can.
    """

    chunk: Chunk
    counters: Mapping[str, int]
    blocked: str = ""


def write_receipt(run_id: int, number: int, counters: Mapping[str, int], blocked: str = "") -> None:
    """Say what became of a chunk (in a worker).

    Parameters
    ----------
    run_id : `int`
        Id of the component row of the command.
    number : `int`
        Number of the chunk.
    counters : `~collections.abc.Mapping` [`str`, `int`]
        What was done, by kind.
    blocked : `str`, optional
        Why nothing can be done at all.
    """
    Component.objects.create(
        kind=ComponentKind.SESSION,
        subject=str(number),
        host=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        started_on=Now(),
        seen_on=Now(),
        stopped_on=Now(),
        message=blocked,
        counters=dict(counters),
        run_id=run_id,
    )


class Crew:
    """Hands chunks out to the workers of one run and sees that each comes back.

    Parameters
    ----------
    run_id : `int`
        Id of the component row of the command.
    workers : `Workers`
        The workers.
    """

    def __init__(self, run_id: int, workers: Workers) -> None:
        self._run_id, self._workers = run_id, workers
        self._out: dict[int, Chunk] = {}
        self._number = 0
        self._idle_since: float | None = None
        # Enough to keep them busy between two looks; little enough for the memory and the queue.
        self._most_out = 3 * workers.count + 1

    @property
    def wants_more(self) -> bool:
        """Whether another chunk should be handed out."""
        return len(self._out) < self._most_out

    @property
    def is_done(self) -> bool:
        """Whether every chunk has come back."""
        return not self._out

    def hand_out(self, session: str, candidates: Sequence[Candidate]) -> None:
        """Give a chunk to the workers.

        Raises
        ------
        QueueUnavailable
            The broker does not answer. The chunk counts as out, and `send_lost` sends it again.
        """
        self._number += 1
        chunk = self._out[self._number] = Chunk(self._number, session, candidates)
        protocol.reached("chunk numbered")
        self._send(chunk)

    def collect(self) -> list[Receipt]:
        """Take the receipts that have come in."""
        rows = list(
            Component.objects.filter(kind=ComponentKind.SESSION, run=self._run_id)
            .order_by("id")
            .values_list("id", "subject", "counters", "message")
        )
        if not rows:
            return []
        protocol.reached("receipts read")
        Component.objects.filter(id__in=[row[0] for row in rows]).delete()
        protocol.reached("receipts taken")
        receipts = []
        for _, number, counters, blocked in rows:
            # A chunk that was sent twice may have been done twice; the first time counts.
            chunk = self._out.pop(int(number), None)
            if chunk is not None:
                receipts.append(Receipt(chunk, counters, blocked))
        return receipts

    def send_lost(self) -> list[Chunk]:
        """Send again what no worker has any more.

        Returns
        -------
        given_up : `list` [`Chunk`]
            Chunks that were lost again and again.
        """
        now = time.monotonic()
        workers = self._workers
        if not self._out or workers.idle() < workers.count or workers.wakeups.waiting():
            self._idle_since = None
            return []
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since < LOST_AFTER_S:
            return []
        self._idle_since = None
        given_up = [c for c in self._out.values() if c.times_sent >= MOST_TIMES_SENT]
        for chunk in given_up:
            del self._out[chunk.number]
            logger.error(
                "the worker died %d times over a chunk of %d files that begins with %s; it is"
                " given up",
                chunk.times_sent,
                len(chunk),
                escape(chunk.candidates[0].path),
            )
        for chunk in self._out.values():
            logger.warning(
                "a chunk of %d files that begins with %s was lost with its worker; it is sent"
                " again",
                len(chunk),
                escape(chunk.candidates[0].path),
            )
            self._send(chunk)
        return given_up

    def _send(self, chunk: Chunk) -> None:
        paths = [candidate.path for candidate in chunk.candidates]
        self._workers.wakeups.send(chunk.session, self._run_id, chunk.number, paths)
        # A broker that does not answer is not the chunk's fault.
        chunk.times_sent += 1
