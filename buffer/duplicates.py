"""Arrivals that are stored already: proven, and then deleted, set aside or left.

Nothing is deleted on the word of the database: the stored copy is read again first. If it is
missing or damaged, the arrival is what repairs it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import stat as stat_module
from itertools import count
from pathlib import Path

from buffer import placing, steps
from buffer.discovery import Arrival, identity
from buffer.finder_config import AlternativeAction
from buffer.hashing import checksums
from buffer.io_errors import AsideError, ReleaseError, StorageError, SyncError, errors_as
from buffer.models import File
from buffer.names import escape
from buffer.passage import Passage
from buffer.reading import Reading, stage
from buffer.trees import Tree

logger = logging.getLogger(__name__)


class Duplicates:
    """Settles the duplicates of one finder.

    Parameters
    ----------
    passage : `Passage`
        From where to where.
    action : `AlternativeAction`
        What to do with duplicates.
    aside : `pathlib.Path` or `None`
        Where `AlternativeAction.MOVE` sets them.
    """

    def __init__(self, passage: Passage, action: AlternativeAction, aside: Path | None) -> None:
        self._passage, self._action, self._aside = passage, action, aside

    def settle(self, reading: Reading, stored: File) -> str:
        """Do with a duplicate what is configured.

        Returns
        -------
        how : `str`
            What was done; '' if it was left where it is.

        Raises
        ------
        OSError, placing.Swapped
            It could not be done; nothing is lost.
        """
        if self._action is AlternativeAction.NOOP:
            return ""
        if self._action is AlternativeAction.DELETE:
            return self.delete(reading, stored)
        return self._repair_if_needed(reading, stored) or self._set_aside(reading)

    def delete(self, reading: Reading, stored: File) -> str:
        """Delete an arrival whose stored copy is good, or repair that copy with it."""
        repaired = self._repair_if_needed(reading, stored)
        if repaired:
            return repaired
        release(self._passage.source, reading.arrival)
        return "deleted; the stored copy was read again and is good"

    def _repair_if_needed(self, reading: Reading, stored: File) -> str:
        with errors_as(StorageError):
            damage = what_is_wrong(self._passage.target, stored, reading.arrival)
        steps.reached("stored copy read")
        return self._repair(reading, stored, damage) if damage else ""

    def _repair(self, reading: Reading, stored: File, damage: str) -> str:
        """Put the arrival where the missing or damaged stored copy should be."""
        passage, kept = self._passage, ""
        pending = passage.pending()
        held = contextlib.ExitStack()
        try:
            with errors_as(StorageError):
                directory = held.enter_context(passage.target.held(stored.relpath))
                if damage == "damaged":
                    name = f"damaged-{stored.pk}-{secrets.token_hex(4)}"
                    incoming = passage.incoming()
                    placing.rename_no_replace(directory, stored.filename, incoming, name)
                    kept = f" and is kept as .incoming/{name}"
                    pending.add(incoming)
            steps.reached("damaged copy moved")
            reading.place(passage, directory, stored.filename)
            steps.reached("repaired")
            try:
                with errors_as(SyncError):
                    pending.add(reading.durable_descriptor)
                    pending.add_way(passage.target, stored.relpath)
                    pending.sync()
                if not reading.unchanged:
                    raise placing.Swapped(reading.arrival.filename)
            except BaseException:
                # It would count as good, since it reads well until the cache is dropped.
                reading.withdraw(passage, directory, stored.filename)
                raise
        finally:
            pending.clear()
            held.close()
        logger.warning("the stored copy of file %d (%s) was %s%s", stored.pk, stored, damage, kept)
        release(passage.source, reading.arrival)
        return f"the stored copy was {damage}{kept}; this arrival has repaired it"

    def _set_aside(self, reading: Reading) -> str:
        """Move a duplicate to the directory for them, under a name that is free there."""
        arrival = reading.arrival
        assert self._aside is not None, "the configuration requires finder.duplicates for Move"
        with (
            errors_as(AsideError),
            Tree(self._aside) as tree,
            tree.held(arrival.relpath) as directory,
        ):
            for number in count():
                name = numbered(arrival.filename, number)
                try:
                    self.place_aside(reading, directory, name)
                except FileExistsError:
                    continue
                break
            steps.reached("set aside")
            pending = self._passage.pending()
            try:
                pending.add_way(tree, arrival.relpath)
                pending.add(reading.descriptor)
                pending.sync()
            finally:
                pending.clear()
            try:
                release(self._passage.source, arrival)
            except ReleaseError:
                # Else each new try would set another one aside.
                os.unlink(name, dir_fd=directory)
                raise
        where = f"{arrival.relpath}/{name}" if arrival.relpath else name
        return f"set aside as {escape(self._aside / where)}"

    @property
    def aside(self) -> Path | None:
        """Where arrivals are set aside; None if that is not configured."""
        return self._aside

    def place_aside(self, reading: Reading, directory: int, name: str) -> None:
        """Give an arrival a name in the directory for duplicates, besides or instead of its own.

        Raises
        ------
        FileExistsError
            Something has that name already.
        AsideError, OSError, placing.Swapped
            It cannot be done; nothing has changed.
        """
        arrival = reading.arrival
        source_dir = self._passage.source.directory(arrival.relpath)
        try:
            placing.place(reading.descriptor, source_dir, arrival.filename, directory, name)
        except placing.CannotPlace:
            try:
                staged, copied = stage(
                    arrival, reading.descriptor, directory, list(reading.checksums), "."
                )
            except StorageError as error:
                raise AsideError(error.errno, error.strerror) from error
            try:
                if copied != reading.checksums:
                    raise placing.Swapped(arrival.filename) from None
                if self._passage.fsync:
                    os.fsync(staged.descriptor)
                placing.place(staged.descriptor, directory, staged.name, directory, name)
            except StorageError as error:
                raise AsideError(error.errno, error.strerror) from error
            finally:
                staged.discard()


def what_is_wrong(target: Tree, stored: File, arrival: Arrival) -> str:
    """Read a stored copy: 'missing', 'damaged', or '' if it is as recorded.

    It is read from the medium, since it is to outlive the arrival, and the memory.

    Raises
    ------
    OSError
        It cannot be read, which proves nothing.
    """
    try:
        descriptor = target.open_file(stored.relpath, stored.filename)
    except FileNotFoundError:
        return "missing"
    try:
        read_from_medium(descriptor, arrival.stat)
        return "" if has_content(descriptor, stored) else "damaged"
    finally:
        os.close(descriptor)


def read_from_medium(descriptor: int, source: os.stat_result) -> None:
    """Make the kernel forget what it remembers of a file, so that it is read from its medium.

    Not if the file is the source itself, under another name: what the kernel remembers may be all
    that there is of that.
    """
    state = os.fstat(descriptor)
    if (state.st_dev, state.st_ino) != (source.st_dev, source.st_ino):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def has_content(descriptor: int, file: File) -> bool:
    """Tell whether an open file has the content that is recorded."""
    return is_content(descriptor, file.size_bytes, file.checksum_algorithm, file.checksum)


def is_content(descriptor: int, size: int, algorithm: str, checksum: str) -> bool:
    """Tell whether an open file is a regular one and has a content."""
    state = os.fstat(descriptor)
    if not stat_module.S_ISREG(state.st_mode) or state.st_size != size:
        return False
    return checksums(descriptor, [algorithm], size=size)[algorithm] == checksum


def release(source: Tree, arrival: Arrival) -> None:
    """Remove an arrival from the buffer unless it was replaced or moved meanwhile.

    Raises
    ------
    ReleaseError
        It may not be removed.
    """
    try:
        directory = source.directory(arrival.relpath)
        state = source.stat(arrival.relpath, arrival.filename)
        if identity(state) == arrival.identity:
            os.unlink(arrival.filename, dir_fd=directory)
            steps.reached("source unlinked")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ReleaseError(error.errno, error.strerror) from error


def numbered(filename: str, number: int) -> str:
    """Give the n-th name to try for a file in the directory for duplicates."""
    if not number:
        return filename
    suffix = f".{number}"
    # A name of 255 bytes has no room for a number.
    return os.fsdecode(os.fsencode(filename)[: 255 - len(suffix)]) + suffix
