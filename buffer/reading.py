"""One arrival while it is taken in: read and hashed once, copied on the way where it must be."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from buffer import placing, steps
from buffer.discovery import Arrival
from buffer.durability import begin_to_write
from buffer.hashing import checksums
from buffer.io_errors import StorageError, errors_as
from buffer.passage import Passage
from buffer.settling import is_open_for_writing, state_of

#: After so many bytes of a copy, and at its end, its medium is set to work; nobody waits for it.
WRITE_BEHIND_BYTES: Final = 32 << 20


class Unsettled(Exception):
    """The file changed while it was read: somebody still writes it."""


@dataclass(slots=True)
class Staged:
    """A copy in the storage's ``.incoming`` directory."""

    directory: int
    name: str
    descriptor: int
    #: Bytes that nobody has told the kernel to write to the medium.
    behind: int = field(default=0, init=False)

    def write(self, block: bytes) -> None:
        """Write the next bytes."""
        view = memoryview(block)
        self.behind += len(block)
        with errors_as(StorageError):
            while view:
                view = view[os.write(self.descriptor, view) :]
        if self.behind >= WRITE_BEHIND_BYTES:
            self.flush()
        steps.reached("block copied")

    def flush(self) -> None:
        """Have what was written on its way to the medium by the time that it is synced."""
        self.behind = 0
        with errors_as(StorageError):
            begin_to_write(self.descriptor)

    def discard(self) -> None:
        """Close and remove the copy. Its place in storage, if it has one, is another name."""
        # What cannot be removed now is found by the next recovery.
        with contextlib.suppress(OSError):
            os.close(self.descriptor)
        with contextlib.suppress(OSError):
            os.unlink(self.name, dir_fd=self.directory)
        steps.reached("copy discarded")


@dataclass(slots=True)
class Reading:
    """An arrival that was read from its beginning to its end.

    Parameters
    ----------
    arrival : `Arrival`
        Its name and state.
    descriptor : `int`
        It, open.
    checksums : `dict` [`str`, `str`]
        Hexadecimal digest by algorithm.
    staged : `Staged` or `None`
        Its copy, if the storage is on another file system.
    """

    arrival: Arrival
    descriptor: int
    checksums: dict[str, str]
    staged: Staged | None = field(default=None)

    @property
    def durable_descriptor(self) -> int:
        """The open file that is, or becomes, the stored one."""
        return self.descriptor if self.staged is None else self.staged.descriptor

    @property
    def unchanged(self) -> bool:
        """Whether the arrival is still as it was read, and nobody has it open for writing."""
        now, then = os.fstat(self.descriptor), self.arrival.stat
        same = (now.st_size, now.st_mtime_ns) == (then.st_size, then.st_mtime_ns)
        return same and not is_open_for_writing(self.descriptor)

    def place(self, passage: Passage, directory: int, filename: str) -> None:
        """Give the file its place in storage, by a link, a rename or a copy.

        Parameters
        ----------
        passage : `Passage`
            From where to where.
        directory : `int`
            Descriptor of a directory in storage.
        filename : `str`
            The name there.

        Raises
        ------
        FileExistsError
            The place is taken.
        placing.Swapped
            The name in the buffer leads to another file by now.
        StorageError
            The medium failed, is full or cannot be written.
        OSError
            The arrival cannot be read.
        """
        arrival = self.arrival
        if self.staged is None:
            source_dir = passage.source.directory(arrival.relpath)
            try:
                with errors_as(StorageError, placing.CannotPlace):
                    placing.place(
                        self.descriptor, source_dir, arrival.filename, directory, filename
                    )
                return
            except placing.CannotPlace:
                algorithms = list(self.checksums)
                self.staged, copied = stage(
                    arrival, self.descriptor, passage.incoming(), algorithms, passage.staging
                )
                if copied != self.checksums:
                    raise placing.Swapped(arrival.filename) from None
        staged = self.staged
        with errors_as(StorageError):
            placing.place(staged.descriptor, staged.directory, staged.name, directory, filename)

    def withdraw(self, passage: Passage, directory: int, filename: str) -> None:
        """Take back what `place` did, if the place still has this file.

        Parameters
        ----------
        passage : `Passage`
            From where to where.
        directory : `int`
            Descriptor of the directory that it was placed in.
        filename : `str`
            The name there.

        Raises
        ------
        OSError
            It cannot be taken back.
        """
        if not placing.is_same_file(os.fstat(self.durable_descriptor), directory, filename):
            return
        source_dir = passage.source.directory(self.arrival.relpath)
        if self.staged is not None or self._is_in(source_dir):
            os.unlink(filename, dir_fd=directory)
        else:
            # It was moved, or its name in the buffer is another file's by now.
            placing.give_back(directory, filename, source_dir, self.arrival.filename)

    def _is_in(self, source_dir: int) -> bool:
        """Tell whether the arrival has its name in the buffer still."""
        try:
            state = os.fstat(self.descriptor)
            return placing.is_same_file(state, source_dir, self.arrival.filename)
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close what is open and remove the copy's first name."""
        os.close(self.descriptor)
        if self.staged is not None:
            self.staged.discard()
            self.staged = None


def read(
    arrival: Arrival,
    descriptor: int,
    algorithms: Collection[str],
    incoming: int | None,
    prefix: str,
) -> Reading:
    """Read an open arrival once: hash it, and copy it if `incoming` is given.

    Parameters
    ----------
    arrival : `Arrival`
        Its name and the state in which it settled.
    descriptor : `int`
        It, open; belongs to the result, or stays the caller's if this fails.
    algorithms : `~collections.abc.Collection` [`str`]
        Checksums to compute.
    incoming : `int` or `None`
        Descriptor of the directory for a copy.
    prefix : `str`
        How the copy's name begins.

    Raises
    ------
    Unsettled
        It is not, or not any more, what settled.
    OSError
        Reading or copying failed.
    """
    staged: Staged | None = None
    if incoming is None:
        digests = checksums(descriptor, algorithms, size=arrival.stat.st_size)
    else:
        staged, digests = stage(arrival, descriptor, incoming, algorithms, prefix)
    if state_of(os.fstat(descriptor)) != state_of(arrival.stat):
        if staged is not None:
            staged.discard()
        raise Unsettled(arrival.path)
    return Reading(arrival, descriptor, digests, staged)


def stage(
    arrival: Arrival, descriptor: int, directory: int, algorithms: Collection[str], prefix: str
) -> tuple[Staged, dict[str, str]]:
    """Copy an open file into a directory under a name of ours, hashing it on the way.

    Raises
    ------
    StorageError
        The copy cannot be written.
    OSError
        The file cannot be read.
    """
    name = f"{prefix}{secrets.token_hex(8)}.part"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with errors_as(StorageError):
        _check_room(directory, arrival.stat.st_size)
        copy = os.open(name, flags, 0o644, dir_fd=directory)
    staged = Staged(directory, name, copy)
    steps.reached("copy begun")
    try:
        digests = checksums(descriptor, algorithms, size=arrival.stat.st_size, sink=staged.write)
        staged.flush()
        original = os.fstat(descriptor)
        # Kind to have, and refused by some network file systems.
        with contextlib.suppress(OSError):
            os.fchmod(copy, original.st_mode & 0o777)
        with contextlib.suppress(OSError):
            os.utime(copy, ns=(original.st_atime_ns, original.st_mtime_ns))
    except BaseException:
        staged.discard()
        raise
    steps.reached("copied")
    return staged, digests


def _check_room(directory: int, size: int) -> None:
    """Fail before the first byte rather than after the last that finds room."""
    space = os.fstatvfs(directory)
    if space.f_blocks and space.f_bavail * space.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
