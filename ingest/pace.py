"""How many batches a worker claims at once.

Each claim costs the database and the worker as much as a batch does that follows it. Where far more
waits than all workers have in hand, a worker claims as many batches as it does in a short while.
Otherwise one: what a worker holds, others cannot do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

#: A claim is for no more than what a worker does in this time, and what is not begun after twice
#: this time is given back; seconds.
AHEAD_S: Final = 5.0
GIVE_BACK_AFTER_S: Final = 2 * AHEAD_S
#: A claim of so many files costs little beside the work on them.
MOST_FILES: Final = 100
#: So often what one worker claims must wait for each worker of the command, and for at least so
#: many workers, which there may be on other hosts.
PLENTY: Final = 2
FEWEST_WORKERS: Final = 16
#: How long it is believed that far more waits, or not; seconds.
BELIEVED_S: Final = 5.0


class Pace:
    """The pace of one worker, and what that lets it claim.

    Parameters
    ----------
    batch_size : `int`
        How many files the plugin gets in one call.
    workers : `int`
        How many workers the command has.
    """

    def __init__(self, batch_size: int, workers: int) -> None:
        self._batch_size, self._workers = batch_size, max(workers, FEWEST_WORKERS)
        self._batch_s = AHEAD_S
        self._plenty, self._believed_until = False, 0.0

    def limit(self, waits: Callable[[int], bool]) -> int:
        """Give how many files to claim now.

        Parameters
        ----------
        waits : callable
            Tells whether more than so many files wait. To ask takes time in proportion.
        """
        batches = min(AHEAD_S / max(self._batch_s, 1e-3), MOST_FILES / self._batch_size)
        if batches < 2:
            return self._batch_size
        limit = int(batches) * self._batch_size
        if time.monotonic() >= self._believed_until:
            self._plenty = waits(limit * self._workers * PLENTY)
            self._believed_until = time.monotonic() + BELIEVED_S
        return limit if self._plenty else self._batch_size

    def took(self, files: int, seconds: float) -> None:
        """Note how long a worker took over so many files of a claim."""
        self._batch_s = seconds * self._batch_size / max(files, 1)
