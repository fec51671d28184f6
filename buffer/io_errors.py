"""What errors of the file system mean for an arrival, in words for an operator."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Final

from buffer.models import RefusalReason
from buffer.refusing import Refused
from buffer.trees import Tree


class CannotStore(Exception):
    """The storage area, not an arrival, is in trouble: nothing can be taken in for now."""


class StorageError(OSError):
    """Something failed in the storage area."""


class SyncError(StorageError):
    """What was written in the storage area did not reach the medium.

    The kernel says so once, and counts what it could not write as written: only bytes that are
    written anew can be trusted after it.
    """


class AsideError(OSError):
    """Something failed in the directory for duplicates."""


class ReleaseError(OSError):
    """An arrival that is stored cannot be removed from the buffer."""


_SAID_BEFORE: Final = (FileExistsError, StorageError, AsideError, ReleaseError)


class errors_as:
    """Say where an error happened; that a name is taken, and `but`, are left to the caller.

    A class, as `contextlib.suppress` is one: a generator took 2.6 us, three times for each file.

    Parameters
    ----------
    kind : `type` [`OSError`]
        What an error is raised as.
    *but : `type` [`OSError`]
        What is not.
    """

    def __init__(self, kind: type[OSError], *but: type[OSError]) -> None:
        self._kind = kind
        self._left: tuple[type[OSError], ...] = (*_SAID_BEFORE, *but)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        raised: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, self._left):
            raise self._kind(error.errno, error.strerror) from error


_Texts = Mapping[int, tuple[RefusalReason, str]]

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_FULL: Final = (RefusalReason.STORAGE_FULL, "the storage has no room for it; free some")

_ARRIVAL: Final[_Texts] = {
    errno.ENOENT: (RefusalReason.VANISHED, "it is gone from the buffer"),
    errno.EACCES: (RefusalReason.UNREADABLE, "it may not be read; check owner and permissions"),
    errno.EPERM: (RefusalReason.UNREADABLE, "it may not be read; check owner and permissions"),
    errno.ELOOP: (RefusalReason.NOT_REGULAR, "it is a symbolic link"),
    errno.ENOTDIR: (
        RefusalReason.NOT_REGULAR,
        "a directory above it is a symbolic link or no directory",
    ),
    errno.ENXIO: (RefusalReason.NOT_REGULAR, "it is a socket or a device"),
    errno.EIO: (RefusalReason.EIO, "the medium of the buffer failed; see the kernel's log"),
}
_STORAGE: Final[_Texts] = {
    errno.EACCES: (
        RefusalReason.EIO,
        "its directory in the storage may not be used by this user; check owner and permissions",
    ),
    errno.EPERM: (
        RefusalReason.EIO,
        "its directory in the storage may not be used by this user; check owner and permissions",
    ),
    errno.ENOTDIR: (
        RefusalReason.CONFLICT,
        "the storage has a symbolic link or a file where its directory should be",
    ),
    errno.ELOOP: (RefusalReason.CONFLICT, "the storage has a symbolic link of this name"),
    errno.ENXIO: (RefusalReason.CONFLICT, "the storage has a socket or device of this name"),
    errno.EXDEV: (
        RefusalReason.EIO,
        "its directory in the storage is on another file system than the storage's root; give it"
        " a storage area of its own",
    ),
    errno.EFBIG: (RefusalReason.STORAGE_FULL, "it is too large for the storage's file system"),
    errno.ENAMETOOLONG: (RefusalReason.BAD_NAME, "the name is too long for the storage"),
    errno.EILSEQ: (RefusalReason.BAD_NAME, "the storage does not accept such a name"),
    errno.EINVAL: (RefusalReason.BAD_NAME, "the storage does not accept such a name"),
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EIO: (RefusalReason.EIO, "the medium of the storage failed; see the kernel's log"),
}
_ASIDE_FULL: Final = (
    RefusalReason.STORAGE_FULL,
    "it is a duplicate, and the directory for duplicates has no room; free some",
)
_ASIDE_FAILED: Final = (
    RefusalReason.EIO,
    "it is a duplicate, and cannot be set aside in the directory for duplicates",
)
#: What ends all work for now, whichever arrival meets it first.
_HERE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_THERE: Final = frozenset({errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN, *_NO_ROOM})
_PERMISSION: Final = frozenset({errno.EACCES, errno.EPERM})


def has_no_room(error: OSError) -> bool:
    """Tell whether the storage is full, perhaps only for this arrival."""
    return isinstance(error, StorageError) and error.errno in _NO_ROOM


def why_blocked(error: OSError, target: Tree) -> CannotStore | None:
    """Say why nothing can be taken in for now; None if only the one arrival is concerned."""
    text = os.strerror(error.errno or 0)
    if error.errno in _HERE:
        return CannotStore(f"{text}: this process has reached a limit of the system")
    if not isinstance(error, StorageError):
        return None
    if error.errno in _THERE:
        return CannotStore(text)
    if error.errno in _PERMISSION and not _may_write(target):
        return CannotStore(f"{text}: this user has no right to write in it")
    return None


def why(error: OSError) -> Refused:
    """Say for an operator what an error of the file system means for an arrival."""
    if isinstance(error, ReleaseError):
        found = (
            RefusalReason.UNREADABLE,
            "it is stored, but cannot be removed from the buffer; check owner and permissions of"
            " its directory",
        )
    elif isinstance(error, AsideError):
        found = _ASIDE_FULL if error.errno in _NO_ROOM else _ASIDE_FAILED
    elif isinstance(error, SyncError):
        found = (
            RefusalReason.EIO,
            "it could not be written to the medium of the storage; see the kernel's log",
        )
    elif isinstance(error, StorageError):
        found = _STORAGE.get(
            error.errno or 0, (RefusalReason.EIO, "the storage's file system failed")
        )
    else:
        found = _ARRIVAL.get(
            error.errno or 0, (RefusalReason.EIO, "the buffer's file system failed")
        )
    reason, text = found
    return Refused(reason, f"{text} ({os.strerror(error.errno)})" if error.errno else text)


def _may_write(tree: Tree) -> bool:
    return os.access(".", os.W_OK | os.X_OK, dir_fd=tree.descriptor, effective_ids=True)
