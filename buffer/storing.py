"""From a reading to a stored file: intent, place, durability, commit, release, in this order.

A crash between any two of them leaves what `buffer.recovery` knows how to finish.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from django.db import transaction

from buffer import placing, recording, steps
from buffer.duplicates import is_content, read_from_medium, release
from buffer.durability import Pending, require_written
from buffer.io_errors import ReleaseError, StorageError, SyncError, errors_as, why
from buffer.ledger import Ledger
from buffer.models import File, RefusalReason
from buffer.names import escape
from buffer.passage import Passage
from buffer.reading import Reading
from buffer.recording import Row
from buffer.refusing import Refused
from buffer.trees import Tree

logger = logging.getLogger(__name__)


class Storing:
    """Stores what is new.

    Parameters
    ----------
    passage : `Passage`
        From where to where.
    ledger : `Ledger`
        Where it is noted what was stored and what was not.
    """

    def __init__(self, passage: Passage, ledger: Ledger) -> None:
        self._passage, self._ledger = passage, ledger
        self._released: list[int] = []

    def store(self, readings: Sequence[Reading]) -> None:
        """Store a batch.

        Raises
        ------
        django.db.DatabaseError
            The database does not answer. `buffer.recovery` must run before the next batch.
        """
        rows = self._intend(readings)
        if not rows:
            return
        placed = self._place_all(rows)
        steps.reached("durable")
        stored = self._commit(rows, placed)
        steps.reached("stored committed")
        for row in stored:
            self._release(row)

    def flush(self) -> None:
        """Commit which sources are gone; otherwise the next batch does it."""
        if self._released:
            recording.forget_sources(self._released)
            self._released.clear()

    def released(self, file: File) -> None:
        """Note that the source of a stored file is gone."""
        self._released.append(file.pk)

    # Intents

    def _intend(self, readings: Sequence[Reading]) -> list[Row]:
        """Commit the intents, and with them what the last batch released.

        Whoever is left out, since somebody else (another finder, a backfill) reserved his place
        just now, finds that file in the next cycle.
        """
        if not readings:
            return []
        with transaction.atomic():
            if self._released:
                recording.forget_sources(self._released)
            rows = recording.insert(self._passage, readings, stored=False)
        self._released.clear()
        steps.reached("intent committed")
        return rows

    # Places

    def _place_all(self, rows: Sequence[Row]) -> list[Row]:
        """Give the files their places, durably; give those of which that is true."""
        pending = self._passage.pending()
        placed: list[Row] = []
        ways: dict[str, tuple[int, int]] = {}
        try:
            for row in rows:
                if self._place(row, pending, ways):
                    placed.append(row)
                steps.reached("placed")
            try:
                pending.sync()
            except OSError as error:
                # All files, since nobody knows whose bytes did not get through; and at once, since
                # after a crash they would be found in their places and trusted.
                for row in placed:
                    self._withdraw(row)
                for reading, _ in placed:
                    self._ledger.failed(reading.arrival, SyncError(error.errno, error.strerror))
                return []
        finally:
            pending.clear()
        placed = [row for row in placed if self._is_written(row)]
        moved = _moved(self._passage.target.root, ways)
        return [row for row in placed if self._is_still_good(row, moved)]

    def _place(self, row: Row, pending: Pending, ways: dict[str, tuple[int, int]]) -> bool:
        reading, _ = row
        relpath, filename = reading.arrival.relpath, reading.arrival.filename
        try:
            with errors_as(StorageError):
                if relpath not in ways:
                    ways[relpath] = _inode(self._passage.target.directory(relpath, make=True))
                    pending.add_way(self._passage.target, relpath)
                # Not before: the way to a deep one has more directories than are kept open.
                directory = self._passage.target.directory(relpath, make=True)
            try:
                reading.place(self._passage, directory, filename)
            except FileExistsError:
                return self._adopt(reading, pending)
            with errors_as(StorageError):
                # A link or a rename has placed it, so it is on the file system of the storage.
                pending.add(reading.durable_descriptor, self._passage.target.device)
        except OSError as error:
            self._ledger.failed(reading.arrival, error)
        except placing.Swapped:
            self._ledger.swapped(reading.arrival)
        else:
            return True
        return False

    def _adopt(self, reading: Reading, pending: Pending) -> bool:
        """Take an untracked file in storage for the arrival if it has its content."""
        arrival, algorithm = reading.arrival, self._passage.algorithm
        checksum = reading.checksums[algorithm]
        with errors_as(StorageError):
            there = self._passage.target.open_file(arrival.relpath, arrival.filename)
            try:
                read_from_medium(there, os.fstat(reading.descriptor))
                if is_content(there, arrival.stat.st_size, algorithm, checksum):
                    pending.add(there)
                    return True
            finally:
                os.close(there)
        self._ledger.refuse(
            arrival,
            Refused(
                RefusalReason.CONFLICT,
                "storage has an untracked file of this name and other content, which is kept as it"
                " is",
                checksum=checksum,
            ),
        )
        return False

    def _is_written(self, row: Row) -> bool:
        """Ask after each file: that the sync went well may mean that another was told."""
        if not self._passage.fsync:
            return True
        reading, _ = row
        try:
            require_written(reading.durable_descriptor)
        except OSError as error:
            self._withdraw(row)
            self._ledger.failed(reading.arrival, SyncError(error.errno, error.strerror))
            return False
        return True

    def _is_still_good(self, row: Row, moved: set[str]) -> bool:
        """Look a last time: nobody wrote to the file, nor put its directory elsewhere."""
        reading, _ = row
        if not reading.unchanged:
            self._withdraw(row)
            self._ledger.swapped(reading.arrival)
            return False
        if reading.arrival.relpath in moved:
            self._withdraw(row)
            text = "its directory in the storage was moved away while it was taken in"
            self._ledger.refuse(reading.arrival, Refused(RefusalReason.EIO, text))
            return False
        return True

    def _withdraw(self, row: Row) -> None:
        """Take a file out of storage that may not stay; it starts again from its source.

        What a sync could not write must not stay: the next sync would succeed, with nothing on the
        medium.
        """
        reading, number = row
        arrival, target = reading.arrival, self._passage.target
        try:
            reading.withdraw(self._passage, target.directory(arrival.relpath), arrival.filename)
        except OSError as error:
            shown = escape(arrival.path)
            logger.error("file %d (%s) cannot be withdrawn: %s", number, shown, error.strerror)

    # Commits

    def _commit(self, rows: Sequence[Row], placed: list[Row]) -> list[Row]:
        """Mark what is stored, and delete the intents of what is not."""
        stored = {number for _, number in placed}
        failed = [number for _, number in rows if number not in stored]
        with transaction.atomic():
            if failed:
                File.objects.intents().filter(id__in=failed).delete()
            if recording.mark_stored(sorted(stored)) == len(placed):
                return placed
            # Somebody took our intents for dead. The files have their places and are durable.
            left = set(File.objects.stored().filter(id__in=stored).values_list("id", flat=True))
            gone = [reading for reading, number in placed if number not in left]
            kept = [row for row in placed if row[1] in left]
            return kept + recording.insert(self._passage, gone, stored=True)

    def _release(self, row: Row) -> None:
        """Remove the source, unless it is not what was stored any more."""
        reading, number = row
        arrival = reading.arrival
        if not reading.unchanged:
            # Opened for writing since the last look, while the database was waited for. What is
            # stored was read before; what is written now is met as another arrival of its name.
            self._ledger.done(arrival, "stored")
            return
        try:
            release(self._passage.source, arrival)
        except ReleaseError as error:
            # The file is stored; that it also stays in the buffer is untidy, not dangerous.
            self._ledger.done(arrival, "stored")
            self._ledger.refuse(arrival, why(error), kind="unreleased")
            return
        steps.reached("released")
        self._released.append(number)
        self._ledger.done(arrival, "stored")


def _inode(descriptor: int) -> tuple[int, int]:
    state = os.fstat(descriptor)
    return state.st_dev, state.st_ino


def _moved(root: Path, ways: Mapping[str, tuple[int, int]]) -> set[str]:
    """Look directories up afresh; give those that are not the ones they were."""
    moved = set()
    with errors_as(StorageError), Tree(root) as tree:
        for relpath, inode in ways.items():
            try:
                if _inode(tree.directory(relpath)) != inode:
                    moved.add(relpath)
            except OSError:
                moved.add(relpath)
    return moved
