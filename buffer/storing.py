"""From a reading to a stored file: intent, place, durability, commit, release, in this order.

A crash between any two of them leaves what `buffer.recovery` knows how to finish.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from django.db import IntegrityError, transaction
from django.utils import timezone

from buffer import placing, steps
from buffer.duplicates import has_content, read_from_medium, release
from buffer.durability import Pending, require_written
from buffer.io_errors import ReleaseError, StorageError, SyncError, errors_as, why
from buffer.ledger import Ledger
from buffer.models import File, RefusalReason
from buffer.passage import Passage
from buffer.reading import Reading
from buffer.refusals import Refused
from buffer.trees import Tree

logger = logging.getLogger(__name__)

_Pair = tuple[Reading, File]


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
        pairs = self._intend([(reading, self._row(reading)) for reading in readings])
        if not pairs:
            return
        placed = self._place_all(pairs)
        steps.reached("durable")
        stored = self._commit(pairs, placed)
        steps.reached("stored committed")
        for reading, file in stored:
            self._release(reading, file)

    def flush(self) -> None:
        """Commit which sources are gone; otherwise the next batch does it."""
        if self._released:
            File.objects.filter(id__in=self._released).update(source=None, source_identity=None)
            self._released.clear()

    def released(self, file: File) -> None:
        """Note that the source of a stored file is gone."""
        self._released.append(file.pk)

    # Intents

    def _row(self, reading: Reading) -> File:
        arrival = reading.arrival
        return File(
            storage=self._passage.storage,
            relpath=arrival.relpath,
            filename=arrival.filename,
            checksum=reading.checksums[self._passage.algorithm],
            checksum_algorithm=self._passage.algorithm,
            size_bytes=arrival.stat.st_size,
            seen_on=timezone.now(),
            source=str(self._passage.source.root),
            source_identity=arrival.identity,
        )

    def _intend(self, pairs: list[_Pair]) -> list[_Pair]:
        """Commit the intents, and with them what the last batch released."""
        with transaction.atomic():
            released = list(self._released)
            self.flush()
            try:
                with transaction.atomic():
                    File.objects.bulk_create([file for _, file in pairs])
            except IntegrityError:
                # Somebody else (another finder, a backfill) reserved one of the places just now:
                # whoever is left out here finds that file in the next cycle.
                pairs = [pair for pair in pairs if insert(pair[1])]
            self._released = released
        self._released.clear()
        steps.reached("intent committed")
        return pairs

    # Places

    def _place_all(self, pairs: Sequence[_Pair]) -> list[_Pair]:
        """Give the files their places, durably; give those of which that is true."""
        pending = self._passage.pending()
        placed: list[_Pair] = []
        ways: dict[str, tuple[int, int]] = {}
        try:
            for pair in pairs:
                if self._place(pair, pending, ways):
                    placed.append(pair)
                steps.reached("placed")
            try:
                pending.sync()
            except OSError as error:
                # All files, since nobody knows whose bytes did not get through; and at once, since
                # after a crash they would be found in their places and trusted.
                for pair in placed:
                    self._withdraw(pair)
                for pair in placed:
                    self._ledger.failed(pair[0].arrival, SyncError(error.errno, error.strerror))
                return []
        finally:
            pending.clear()
        placed = [pair for pair in placed if self._is_written(pair)]
        moved = _moved(self._passage.target.root, ways)
        return [pair for pair in placed if self._is_still_good(pair, moved)]

    def _place(self, pair: _Pair, pending: Pending, ways: dict[str, tuple[int, int]]) -> bool:
        reading, file = pair
        try:
            with errors_as(StorageError):
                directory = self._passage.target.directory(file.relpath, make=True)
                ways[file.relpath] = _inode(directory)
                pending.add_way(self._passage.target, file.relpath)
            try:
                reading.place(self._passage, directory, file.filename)
            except FileExistsError:
                return self._adopt(pair, pending)
            with errors_as(StorageError):
                pending.add(reading.durable_descriptor)
        except OSError as error:
            self._ledger.failed(reading.arrival, error)
        except placing.Swapped:
            self._ledger.swapped(reading.arrival)
        else:
            return True
        return False

    def _adopt(self, pair: _Pair, pending: Pending) -> bool:
        """Take an untracked file in storage for the arrival if it has its content."""
        reading, file = pair
        with errors_as(StorageError):
            there = self._passage.target.open_file(file.relpath, file.filename)
            try:
                read_from_medium(there, os.fstat(reading.descriptor))
                if has_content(there, file):
                    pending.add(there)
                    return True
            finally:
                os.close(there)
        self._ledger.refuse(
            reading.arrival,
            Refused(
                RefusalReason.CONFLICT,
                "storage has an untracked file of this name and other content, which is kept as it"
                " is",
                checksum=file.checksum,
            ),
        )
        return False

    def _is_written(self, pair: _Pair) -> bool:
        """Ask after each file: that the sync went well may mean that another was told."""
        if not self._passage.fsync:
            return True
        try:
            require_written(pair[0].durable_descriptor)
        except OSError as error:
            self._withdraw(pair)
            self._ledger.failed(pair[0].arrival, SyncError(error.errno, error.strerror))
            return False
        return True

    def _is_still_good(self, pair: _Pair, moved: set[str]) -> bool:
        """Look a last time: nobody wrote to the file, nor put its directory elsewhere."""
        reading, file = pair
        if not reading.unchanged:
            self._withdraw(pair)
            self._ledger.swapped(reading.arrival)
            return False
        if file.relpath in moved:
            self._withdraw(pair)
            text = "its directory in the storage was moved away while it was taken in"
            self._ledger.refuse(reading.arrival, Refused(RefusalReason.EIO, text))
            return False
        return True

    def _withdraw(self, pair: _Pair) -> None:
        """Take a file out of storage that may not stay; it starts again from its source.

        What a sync could not write must not stay: the next sync would succeed, with nothing on the
        medium.
        """
        reading, file = pair
        try:
            reading.withdraw(
                self._passage, self._passage.target.directory(file.relpath), file.filename
            )
        except OSError as error:
            logger.error("file %d (%s) cannot be withdrawn: %s", file.pk, file, error.strerror)

    # Commits

    def _commit(self, pairs: Sequence[_Pair], placed: list[_Pair]) -> list[_Pair]:
        """Mark what is stored, and delete the intents of what is not."""
        stored = {file.pk for _, file in placed}
        failed = [file.pk for _, file in pairs if file.pk not in stored]
        now = timezone.now()
        with transaction.atomic():
            if failed:
                File.objects.intents().filter(id__in=failed).delete()
            marked = File.objects.intents().filter(id__in=stored).update(stored_on=now)
            if marked == len(placed):
                return placed
            # Somebody took our intents for dead. The files have their places and are durable.
            left = set(File.objects.stored().filter(id__in=stored).values_list("id", flat=True))
            return [pair for pair in placed if pair[1].pk in left or _insert_stored(pair[1])]

    def _release(self, reading: Reading, file: File) -> None:
        """Remove the source, unless it is not what was stored any more."""
        arrival = reading.arrival
        try:
            release(self._passage.source, arrival)
        except ReleaseError as error:
            # The file is stored; that it also stays in the buffer is untidy, not dangerous.
            self._ledger.done(arrival, "stored")
            self._ledger.refuse(arrival, why(error), kind="unreleased")
            return
        steps.reached("released")
        self._released.append(file.pk)
        self._ledger.done(arrival, "stored")


def insert(file: File) -> bool:
    """Insert a row unless somebody else has its place."""
    try:
        with transaction.atomic():
            file.pk = None
            file.save(force_insert=True)
    except IntegrityError:
        return False
    return True


def _insert_stored(file: File) -> bool:
    file.stored_on = timezone.now()
    return insert(file)


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
