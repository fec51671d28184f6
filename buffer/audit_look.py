"""One recorded file as it lies in storage: is it what its row says?"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from collections.abc import Callable
from typing import Final

from buffer.audit_findings import Trouble
from buffer.hashing import ALGORITHMS, checksums
from buffer.models import File, FindingKind
from buffer.names import why_bad
from buffer.settling import state_of
from buffer.trees import Tree

Sink = Callable[[bytes], None]

#: What concerns the process or the whole storage area, and says nothing of one file.
HOPELESS: Final = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
    }
)

_KINDS: Final = (
    (stat_module.S_ISLNK, "a symbolic link"),
    (stat_module.S_ISDIR, "a directory"),
    (stat_module.S_ISFIFO, "a FIFO"),
    (stat_module.S_ISSOCK, "a socket"),
)


class StorageFailed(Exception):
    """The storage area as a whole, or this process, is in trouble: nothing can be judged."""


def look(tree: Tree, file: File, sink: Sink | None) -> Trouble | None:
    """Compare a stored file with its row.

    Parameters
    ----------
    tree : `Tree`
        The storage area.
    file : `File`
        The row.
    sink : callable or `None`
        Read the file too, and give it every block; None: look at its kind and size only.

    Returns
    -------
    trouble : `Trouble` or `None`
        None if it is as recorded, as far as was looked.

    Raises
    ------
    StorageFailed
        It is not about this file.
    """
    bad = why_bad(file.relpath, file.filename)
    if bad is not None:
        # Not even looked for: such a path may lead out of the storage area.
        return Trouble(FindingKind.MISSING, f"no stored file can have this path: {bad}")
    try:
        state = tree.stat(file.relpath, file.filename)
    except OSError as error:
        return _why(error)
    trouble = _by_state(file, state)
    if trouble is not None or sink is None:
        return trouble
    if file.checksum_algorithm not in ALGORITHMS:
        detail = f"its checksum is of an unknown kind, {file.checksum_algorithm!r}"
        return Trouble(FindingKind.UNREADABLE, detail)
    try:
        descriptor = tree.open_file(file.relpath, file.filename)
    except OSError as error:
        return _why(error)
    try:
        return _by_content(file, descriptor, sink)
    except OSError as error:
        return _why(error)
    finally:
        os.close(descriptor)


def _by_state(file: File, state: os.stat_result) -> Trouble | None:
    if not stat_module.S_ISREG(state.st_mode):
        what = next((name for test, name in _KINDS if test(state.st_mode)), "a device")
        return Trouble(FindingKind.NOT_REGULAR, f"{what} has its place")
    if state.st_size != file.size_bytes:
        sizes = f"it has {state.st_size} bytes, and {file.size_bytes} were recorded"
        return Trouble(FindingKind.CHANGED, sizes)
    return None


def _by_content(file: File, descriptor: int, sink: Sink) -> Trouble | None:
    before = os.fstat(descriptor)
    trouble = _by_state(file, before)
    if trouble is not None:
        return trouble
    algorithm = file.checksum_algorithm
    # What other readers have left in memory proves nothing of the medium, and what is read here
    # is not to push out what they need.
    _drop(descriptor)
    found = checksums(descriptor, [algorithm], size=file.size_bytes, sink=sink)[algorithm]
    _drop(descriptor)
    if found == file.checksum:
        return None
    if state_of(os.fstat(descriptor)) != state_of(before):
        return Trouble(FindingKind.CHANGED, "somebody writes to it")
    detail = f"its content is not what was recorded: its {algorithm} is {found}"
    return Trouble(FindingKind.CHANGED, detail)


def _drop(descriptor: int) -> None:
    # Errors are those of a file system without a cache.
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        return


def _why(error: OSError) -> Trouble:
    """Say what an error means for a file; a medium that fails does not make it a changed one."""
    if error.errno in HOPELESS:
        raise StorageFailed(os.strerror(error.errno or 0)) from error
    match error.errno:
        case errno.ENOENT | errno.ENAMETOOLONG:
            return Trouble(FindingKind.MISSING, "there is no such file")
        case errno.ELOOP | errno.ENOTDIR:
            detail = "a symbolic link or something else than a directory is on the way to it"
            return Trouble(FindingKind.NOT_REGULAR, detail)
        case errno.ENXIO:
            return Trouble(FindingKind.NOT_REGULAR, "a socket or a device has its place")
        case _:
            detail = f"it cannot be read ({os.strerror(error.errno or 0)})"
            return Trouble(FindingKind.UNREADABLE, detail)
