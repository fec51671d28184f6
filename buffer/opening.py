"""Opening and reading arrivals: what is not regular, not settled or not readable ends here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final, TypeVar

from buffer.candidates import Candidates
from buffer.discovery import Arrival
from buffer.ledger import Ledger
from buffer.models import RefusalReason
from buffer.names import why_bad
from buffer.passage import Passage
from buffer.reading import Reading, Unsettled, read
from buffer.refusing import Refused
from buffer.settling import is_open_for_writing, state_of

#: Reading and hashing release Python's lock; more threads than this only queue at the medium.
THREADS: Final = 4
#: With less to read, threads take longer to hand Python's lock on than they save.
WORTH_THREADS_BYTES: Final = 4 << 20

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Opening:
    """Reads the arrivals of one finder.

    Parameters
    ----------
    passage : `Passage`
        From where to where.
    ledger : `Ledger`
        Where it is noted what cannot be read.
    """

    def __init__(self, passage: Passage, ledger: Ledger) -> None:
        self._passage, self._ledger = passage, ledger
        # Started when there is something to read; they end with this object.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="reading")

    def sift(self, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Refuse what can be refused by its name and kind; give the others.

        The database would not even take some names.
        """
        good: list[Arrival] = []
        refused: list[tuple[Arrival, Refused]] = []
        for arrival in arrivals:
            bad = why_bad(arrival.relpath, arrival.filename)
            if bad is not None:
                refused.append((arrival, Refused(RefusalReason.BAD_NAME, bad)))
            elif not arrival.is_regular:
                text = "only regular files are taken in, no links, FIFOs, sockets or devices"
                refused.append((arrival, Refused(RefusalReason.NOT_REGULAR, text)))
            else:
                good.append(arrival)
        self._ledger.refuse_all(refused)
        return good

    def read(self, arrivals: Sequence[Arrival], candidates: Candidates) -> list[Reading]:
        """Open, hash and, for a storage on another file system, copy arrivals.

        Returns
        -------
        readings : `list` [`Reading`]
            Those that could be read; the caller closes them.
        """
        opened: list[tuple[Arrival, int, int | None]] = []
        results: list[Reading | Exception] = []
        try:
            for arrival in arrivals:
                descriptor = self._open(arrival)
                if descriptor is not None:
                    opened.append((arrival, descriptor, None))
            opened = [(arrival, fd, self._copy_to(arrival)) for arrival, fd, _ in opened]

            def read_one(item: tuple[Arrival, int, int | None]) -> Reading | Exception:
                arrival, descriptor, copy_to = item
                algorithms = {self._passage.algorithm, *candidates.algorithms(arrival)}
                try:
                    return read(arrival, descriptor, algorithms, copy_to, self._passage.staging)
                except (OSError, Unsettled) as error:
                    return error

            if _are_little(opened):
                for _, descriptor, _ in opened:
                    _fetch(descriptor)
                results = [read_one(item) for item in opened]
            else:
                results = self._in_threads(read_one, opened)
        except OSError as error:
            # Not even the directory for copies can be used.
            self._ledger.failed(arrivals[0], error)
        finally:
            read_well = [result for result in results if isinstance(result, Reading)]
            kept = {reading.descriptor for reading in read_well}
            for _, descriptor, _ in opened:
                if descriptor not in kept:
                    os.close(descriptor)
        for (arrival, _, _), result in zip(opened, results, strict=False):
            if isinstance(result, Unsettled):
                # It may be gone: that changes a file, too.
                self._ledger.swapped(arrival)
            elif isinstance(result, OSError):
                self._ledger.failed(arrival, result)
        return read_well

    def _in_threads(
        self, work: Callable[[_Item], _Result], items: Sequence[_Item]
    ) -> list[_Result]:
        """Do some work for each item in a few threads, of which each takes the next item.

        A task for each item would cost more than to read a small file.
        """
        left = iter(range(len(items)))
        results: dict[int, _Result] = {}

        def take_turns() -> None:
            for number in left:
                results[number] = work(items[number])

        turns = [self._threads.submit(take_turns) for _ in range(THREADS)]
        # All of them: when one has failed, the others still have files open.
        for turn in wait(turns).done:
            turn.result()
        return [results[number] for number in range(len(items))]

    def _open(self, arrival: Arrival) -> int | None:
        """Open an arrival; None if it cannot be opened or is not settled."""
        try:
            descriptor = self._passage.source.open_file(arrival.relpath, arrival.filename)
        except OSError as error:
            self._ledger.failed(arrival, error)
            return None
        try:
            same = state_of(os.fstat(descriptor)) == state_of(arrival.stat)
            # Files in storage are read-only to everybody; asking for a lease is for the buffer.
            if same and not (self._passage.move and is_open_for_writing(descriptor)):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        self._ledger.later(arrival)
        return None

    def _copy_to(self, arrival: Arrival) -> int | None:
        """Give the directory that an arrival must be copied to; None if a link will do.

        Once the medium has failed with a file, linking it again would be no better: its lost pages
        count as written. Only a copy is written anew.
        """
        if not self._passage.move:
            return None
        elsewhere = arrival.stat.st_dev != self._passage.target.device
        if elsewhere or self._ledger.was_distrusted(arrival):
            return self._passage.incoming()
        return None


def _are_little(opened: Sequence[tuple[Arrival, int, int | None]]) -> bool:
    """Tell whether threads would not be worth it: little to read, and no copy to be written."""
    size = sum(arrival.stat.st_size for arrival, _, _ in opened)
    return size < WORTH_THREADS_BYTES and all(copy_to is None for _, _, copy_to in opened)


def _fetch(descriptor: int) -> None:
    """Have the kernel begin to read a small file, if it is not in memory, and not wait for it."""
    with contextlib.suppress(OSError):  # some file systems cannot be told
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
