"""Finding what has arrived: a streaming walk over a directory tree.

The walk only names things: it opens directories, never files, and decides nothing but what is
surely not an arrival (temporary names, the program's own files).
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from buffer.names import RESERVED_NAMES, SIDECAR, TEMPORARY_DIRS, is_temporary_name, stems

CHUNK_SIZE: Final = 10_000
"""Entries of one directory that are sorted together: bounds the memory of the walk."""

# Deeper trees have no path that the system would accept (PATH_MAX).
_MAX_DIRECTORY_BYTES: Final = 4096

_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

Skip = Callable[[str, str], bool]
Known = Callable[[str, os.stat_result], bool]
OnError = Callable[[str, OSError], None]
OnEnter = Callable[[str, int], None]


class Arrival(NamedTuple):
    """Something other than a directory that lies below a root.

    Attributes
    ----------
    relpath : `str`
        Directory below the root, separated by ``/``; empty at the top.
    filename : `str`
        The last part of the path.  Bytes that are no UTF-8 are lone surrogates.
    stat : `os.stat_result`
        What `os.lstat` told: of a symbolic link itself, not of its target.
    """

    relpath: str
    filename: str
    stat: os.stat_result

    @property
    def path(self) -> str:
        """Path below the root, separated by ``/`` (`str`)."""
        return f"{self.relpath}/{self.filename}" if self.relpath else self.filename

    @property
    def identity(self) -> str:
        """What the function `identity` gives for it (`str`)."""
        return identity(self.stat)

    @property
    def is_regular(self) -> bool:
        """Whether it is a regular file: no symbolic link, FIFO, socket or device (`bool`)."""
        return stat_module.S_ISREG(self.stat.st_mode)


def identity(stat: os.stat_result) -> str:
    """Give ``device:inode:size:mtime_ns``; another one means that the file changed."""
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"


def scan(
    root: Path,
    *,
    skip: Skip | None = None,
    known: Known | None = None,
    onerror: OnError,
    onenter: OnEnter | None = None,
    below: str = "",
) -> Iterator[Arrival]:
    """Walk a directory tree and name everything in it that may be an arrival.

    Parameters
    ----------
    root : `~pathlib.Path`
        Where to start.  May itself be a symbolic link; below it none is followed, not even one
        that replaces a directory while the walk is under way.
    skip : `~collections.abc.Callable` or `None`
        Called with relpath and filename of each non-directory; if it returns true, the entry is
        passed over before it costs a system call.
    known : `~collections.abc.Callable` or `None`
        Called with the path and the state of each arrival as it is listed; if it returns true,
        that is passed over before it costs its place in the order.
    onerror : `~collections.abc.Callable`
        Called with a path below the root (empty for the root) and the `OSError` for each
        directory that could not be read (or is gone) and each entry that could not be looked at.
        The walk goes on with the others.  A file that vanishes between listing and looking is no
        error: that is what finished temporary files do.
    onenter : `~collections.abc.Callable`, optional
        Called with the path below the root and a descriptor of each directory before it is listed.
    below : `str`, optional
        Walk only the tree below this directory, given by its path below the root.

    Yields
    ------
    arrival : `Arrival`
        Regular files, and symbolic links, FIFOs, sockets and devices for the caller to refuse.
        Temporary names (`buffer.names.is_temporary`) and, at the top, the storage's own
        ``.incoming`` and ``.endpoint-storage`` are left out.

    Notes
    -----
    Memory holds at most `CHUNK_SIZE` entries of one directory and the names of the directories
    that are still to be visited.  Within a chunk the oldest come first, except that ``X.json``
    comes before ``X.fits`` and everything else named ``X.*``, since it describes them.  In a
    directory with more entries than a chunk such a pair may be split, and then the file's place
    in the directory decides: who needs the sidecar must look for it.
    """
    pending = [below]
    while pending:
        relpath = pending.pop()
        subdirectories: list[str] = []
        yield from _scan_directory(root, relpath, subdirectories, skip, known, onerror, onenter)
        # The stack is popped from its end: sorted so that 20240101 is visited before 20240102.
        pending.extend(sorted(subdirectories, reverse=True))


def is_passed_over(relpath: str, filename: str, skip: Skip | None) -> bool:
    """Tell by its name alone that something other than a directory is no arrival."""
    if not relpath and filename in RESERVED_NAMES:
        return True
    return is_temporary_name(filename) or (skip is not None and skip(relpath, filename))


def is_walked(relpath: str, name: str) -> bool:
    """Tell by its name whether a directory may hold arrivals."""
    return name not in TEMPORARY_DIRS and (bool(relpath) or name not in RESERVED_NAMES)


def _scan_directory(
    root: Path,
    relpath: str,
    subdirectories: list[str],
    skip: Skip | None,
    known: Known | None,
    onerror: OnError,
    onenter: OnEnter | None,
) -> Iterator[Arrival]:
    try:
        directory = _open_directory(root, relpath)
    except OSError as error:
        onerror(relpath, error)
        return
    try:
        if onenter is not None:
            onenter(relpath, directory)
        try:
            listing = os.scandir(directory)
        except OSError as error:
            onerror(relpath, error)
            return
        with listing:
            more = True
            while more:
                chunk: list[Arrival] = []
                more = _read_chunk(listing, relpath, chunk, subdirectories, skip, known, onerror)
                sort(chunk)
                yield from chunk
    finally:
        os.close(directory)


def _open_directory(root: Path, relpath: str) -> int:
    """Open a directory below the root, part by part, since O_NOFOLLOW guards one part only."""
    if len(os.fsencode(relpath)) > _MAX_DIRECTORY_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    directory = os.open(root, _OPEN_DIRECTORY)
    for part in relpath.split("/") if relpath else ():
        parent = directory
        try:
            directory = os.open(part, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        finally:
            os.close(parent)
    return directory


def _read_chunk(
    listing: Iterator[os.DirEntry[str]],
    relpath: str,
    chunk: list[Arrival],
    subdirectories: list[str],
    skip: Skip | None,
    known: Known | None,
    onerror: OnError,
) -> bool:
    """Read the next entries of one directory; tell if there may be more."""
    for _ in range(CHUNK_SIZE):
        try:
            entry = next(listing, None)
        except OSError as error:
            onerror(relpath, error)
            return False
        if entry is None:
            return False
        name = entry.name
        try:
            # No system call: the listing tells the type (where it does not, this is the lstat).
            if entry.is_dir(follow_symlinks=False):
                if is_walked(relpath, name):
                    subdirectories.append(f"{relpath}/{name}" if relpath else name)
                continue
            if is_passed_over(relpath, name, skip):
                continue
            stat = entry.stat(follow_symlinks=False)
            if known is None or not known(f"{relpath}/{name}" if relpath else name, stat):
                chunk.append(Arrival(relpath, name, stat))
        except FileNotFoundError:
            continue
        except OSError as error:
            onerror(f"{relpath}/{name}" if relpath else name, error)
    return True


def sort(chunk: list[Arrival]) -> None:
    """Sort by age, a sidecar directly before the files that it describes."""
    sidecars = {a.filename.removesuffix(SIDECAR) for a in chunk if a.filename.endswith(SIDECAR)}
    if not sidecars:
        chunk.sort(key=lambda arrival: (arrival.stat.st_mtime_ns, arrival.filename))
        return
    families = [_family(arrival.filename, sidecars) for arrival in chunk]
    # A family stands where its oldest member would.
    ages: dict[str, int] = {}
    for arrival, family in zip(chunk, families, strict=True):
        age = arrival.stat.st_mtime_ns
        ages[family] = min(age, ages.get(family, age))

    def key(pair: tuple[Arrival, str]) -> tuple[int, str, bool, int, str]:
        arrival, family = pair
        name = arrival.filename
        return ages[family], family, not name.endswith(SIDECAR), arrival.stat.st_mtime_ns, name

    chunk[:] = [arrival for arrival, _ in sorted(zip(chunk, families, strict=True), key=key)]


def _family(filename: str, sidecars: set[str]) -> str:
    """Find the `X` of the first sidecar ``X.json`` that describes a file ``X.*``."""
    return next((stem for stem in stems(filename) if stem in sidecars), filename)
