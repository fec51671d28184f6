"""Finding out which of a command's processes are dead, frozen or useless."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from django.db import OperationalError

from buffer.board import FIRST_WORKER, MONITOR, PUSHER, SENTINEL, Board
from buffer.wakeups import WakeUps

# Nothing may stand still for a minute; but anybody may wait for a lock of SQLite, for 30 s.
BROKER_SILENCE_S = 45.0
# Sessions beat every second or faster; their claims are lost after 30 s.
BUSY_SILENCE_S = 45.0
# A parent that was itself held up longer than this (a loaded or paused machine) judges nobody.
HELD_UP_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to put right: kill these processes, or (none named) restart everything."""

    reason: str
    pids: tuple[int, ...] = ()


class Watchdog:
    """Judges the processes of one cluster by the signs of life on its board.

    The sentinel replaces processes that die. Here the sentinel itself is watched, and what is
    alive but silent. Last, the canary: when wake-ups wait although workers are idle, those are
    replaced, and if that does not help the whole cluster is.

    Parameters
    ----------
    board
        The board of the cluster.
    wakeups
        The queue that it reads.
    canary_s
        For how long an idle process may be silent, or a wake-up wait for an idle worker.
    """

    def __init__(self, board: Board, wakeups: WakeUps, canary_s: float) -> None:
        self.board = board
        self.wakeups = wakeups
        self.canary_s = canary_s
        self._looked_at = self._patient_since = time.monotonic()
        self._progress = tuple(slot.sessions for slot in board.workers)
        self._replaced = False

    def look(self) -> Finding | None:
        """Look at everything once; the first thing that is wrong counts."""
        now = self._note_time()
        if self._silence(SENTINEL) > self.canary_s:
            return Finding(f"their sentinel was silent for {self.canary_s:g} s")
        return self._silent() or self._canary(now)

    def canary_age_s(self) -> float:
        """Tell for how long idle workers have left wake-ups waiting; seconds."""
        idle = any(slot.pid and not slot.busy_since for slot in self.board.workers)
        sent_at = self.wakeups.sent_at
        return time.monotonic() - sent_at if idle and sent_at else 0.0

    def listen(self) -> Finding | None:
        """Look for those that are silent; needs no database, and does not judge the sentinel."""
        self._note_time()
        return self._silent()

    def _note_time(self) -> float:
        now = time.monotonic()
        if now - self._looked_at > HELD_UP_S:
            self._patient_since = now
        self._looked_at = now
        return now

    def _silent(self) -> Finding | None:
        for index in range(MONITOR, len(self.board.slots)):
            slot = self.board.slots[index]
            role = {MONITOR: "monitor", PUSHER: "pusher"}.get(index, "worker")
            if index < FIRST_WORKER:
                limit = BROKER_SILENCE_S
            elif not slot.busy_since:
                limit = self.canary_s
            else:
                limit = BUSY_SILENCE_S if slot.beats else math.inf
            if slot.pid and self._silence(index) > limit:
                return Finding(f"{role} {slot.pid} was silent for {limit:g} s", (slot.pid,))
        return None

    def _canary(self, now: float) -> Finding | None:
        progress = tuple(slot.sessions for slot in self.board.workers)
        if progress != self._progress:
            self._progress, self._replaced = progress, False
            self.wakeups.sent_at = 0.0
        idle = tuple(slot.pid for slot in self.board.workers if slot.pid and not slot.busy_since)
        sent_at = self.wakeups.sent_at
        if not idle or not sent_at or now - max(sent_at, self._patient_since) <= self.canary_s:
            return None
        try:
            waiting = self.wakeups.waiting()
        except OperationalError:
            return None  # the broker is away, not the workers
        self.wakeups.sent_at = now if waiting else 0.0
        if not waiting:  # fetched, by us or by another host
            return None
        if self._replaced:
            return Finding("wake-ups still wait although workers are idle")
        self._replaced = True
        # Sessions that run need not suffer: without locks the others can be killed at will.
        return Finding(
            "wake-ups wait although workers are idle", (self.board.slots[PUSHER].pid, *idle)
        )

    def _silence(self, index: int) -> float:
        return time.monotonic() - max(self.board.slots[index].beat, self._patient_since)
