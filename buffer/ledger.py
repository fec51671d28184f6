"""What became of each arrival of a batch: stored, refused, or to be looked at again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from buffer.discovery import Arrival
from buffer.histograms import TAKE_IN_S, Histogram
from buffer.io_errors import CannotStore, SyncError, has_no_room, why, why_blocked
from buffer.models import RefusalReason
from buffer.passage import Passage
from buffer.refusals import Refusals
from buffer.refusing import Refused
from buffer.settling import Settling, state_of


class Ledger:
    """Keeps the account of one finder's batches.

    Parameters
    ----------
    passage : `Passage`
        From where to where.
    settling : `Settling`
        What is known of files that may still be written.
    refusals : `Refusals`
        Where arrivals that are not taken in are recorded.
    """

    def __init__(self, passage: Passage, settling: Settling, refusals: Refusals) -> None:
        self._passage, self._settling, self.refusals = passage, settling, refusals
        #: What was done, by kind.
        self.counters: Counter[str] = Counter()
        #: How long it took from the beginning of a batch until each of its files was stored.
        self.take_ins = Histogram(TAKE_IN_S)
        self._began = time.monotonic()
        #: Paths of the present batch whose fate is recorded.
        self.accounted: set[str] = set()
        #: Why the present batch could not go on.
        self.blocked: CannotStore | None = None

    def begin(self) -> None:
        """Begin a batch."""
        self.accounted, self.blocked = set(), None
        self._began = time.monotonic()

    def done(self, arrival: Arrival, kind: str, how: str = "taken in") -> None:
        """Note that an arrival is dealt with for good."""
        if kind == "stored":
            self.take_ins.observe(time.monotonic() - self._began)
        self._account(arrival, kind)
        self.refusals.resolve(arrival.path, how)

    def refuse(self, arrival: Arrival, refused: Refused, kind: str = "refused") -> None:
        """Record why an arrival is not taken in."""
        self.refusals.add(arrival.path, self._present(arrival).stat, refused)
        self._account(arrival, kind)

    def refuse_all(self, refused: Sequence[tuple[Arrival, Refused]]) -> None:
        """Record why some arrivals are not taken in, in one transaction."""
        if not refused:
            return
        self.refusals.add_all(
            (arrival.path, self._present(arrival).stat, why_not) for arrival, why_not in refused
        )
        for arrival, _ in refused:
            self._account(arrival, "refused")

    def later(self, arrival: Arrival) -> None:
        """Let an arrival settle afresh: somebody writes or replaces it."""
        self._settling.restart(arrival.path, state_of(arrival.stat))

    def swapped(self, arrival: Arrival) -> None:
        """Note that a name no longer leads to the file that was read."""
        try:
            self._passage.source.stat(arrival.relpath, arrival.filename)
        except (FileNotFoundError, NotADirectoryError) as error:
            self.refuse(arrival, why(FileNotFoundError(2, error.strerror)))
        except OSError as error:
            self.refuse(arrival, why(error))
        else:
            self.later(arrival)

    def failed(self, arrival: Arrival, error: OSError) -> None:
        """Refuse an arrival, or stop the batch if it is not the arrival's fault.

        Of many arrivals for which there is no room, one in each batch is refused, and so makes way
        for others that are smaller. One whose bytes the medium did not take is refused in any case,
        and distrusted from then on.
        """
        blocked = why_blocked(error, self._passage.target)
        no_room = has_no_room(error) and self.blocked is None
        if blocked is None or no_room or isinstance(error, SyncError):
            self.refuse(arrival, why(error))
        self.blocked = self.blocked or blocked

    def was_distrusted(self, arrival: Arrival) -> bool:
        """Tell whether the medium failed with this arrival before."""
        return self.refusals.reason(arrival.path) == RefusalReason.EIO

    def _account(self, arrival: Arrival, kind: str) -> None:
        self._settling.forget(arrival.path)
        self.accounted.add(arrival.path)
        self.counters[kind] += 1

    def _present(self, arrival: Arrival) -> Arrival:
        """Give the arrival's present state, since our own links change its ctime."""
        try:
            stat = self._passage.source.stat(arrival.relpath, arrival.filename)
        except OSError:
            return arrival
        present = Arrival(arrival.relpath, arrival.filename, stat)
        return present if present.identity == arrival.identity else arrival
