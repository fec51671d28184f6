"""Making what was written survive a power cut.

A few files are synced one by one; for many, one `syncfs` of the file system is cheaper, because
each single sync costs milliseconds.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from buffer import steps
from buffer.trees import Tree

#: With more descriptors than this, the whole file system is synced at once. Beside a busy writer
#: a syncfs can take most of a second, so it must replace many syncs to be worth it.
FEW: Final = 8

_FROM: Final = ctypes.c_int64(0)
_TO_END: Final = ctypes.c_int64(0)
_WAIT_BEFORE: Final = 1
_WRITE: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)


class Pending:
    """What must be on the medium before the database may say so.

    Descriptors are duplicated, so that callers may close theirs; once there are enough of a file
    system for it to be synced as a whole, no more of them are kept.

    Parameters
    ----------
    enabled : `bool`
        False: nothing is synced (``finder.fsync: false``, for tests and scratch).
    """

    def __init__(self, enabled: bool = True) -> None:
        self._enabled = enabled
        self._by_device: dict[int, dict[int, int]] = {}
        self._ways: set[str] = set()

    def add(self, descriptor: int, device: int | None = None) -> None:
        """Note a file or directory whose content must be durable.

        Parameters
        ----------
        descriptor : `int`
            It, open.
        device : `int`, optional
            The number of its file system, if that is known for certain: with another one's it may
            not be synced. It spares a system call.
        """
        if not self._enabled:
            return
        if device is not None and len(self._by_device.get(device, ())) > FEW:
            return
        state = os.fstat(descriptor)
        of_device = self._by_device.setdefault(state.st_dev, {})
        if state.st_ino not in of_device and len(of_device) <= FEW:
            of_device[state.st_ino] = os.dup(descriptor)

    def add_way(self, tree: Tree, relpath: str) -> None:
        """Note a directory and all those above it in one tree.

        Whoever made them may have been killed before he could sync the entries, so that they are
        there is no reason to trust them.
        """
        while self._enabled and relpath not in self._ways:
            self._ways.add(relpath)
            self.add(tree.directory(relpath))
            relpath = relpath.rpartition("/")[0]

    def sync(self) -> None:
        """Make everything noted durable, and forget it.

        Raises
        ------
        OSError
            The medium did not take it: nothing of it may be counted as stored. Retrying the sync
            of the same descriptor would lie, since the kernel reports a lost write once.
        """
        try:
            for of_device in self._by_device.values():
                descriptors = list(of_device.values())
                if len(descriptors) > FEW:
                    _syncfs(descriptors[0])
                    steps.reached("synced")
                else:
                    for descriptor in descriptors:
                        os.fsync(descriptor)
                        steps.reached("synced")
        finally:
            self.clear()

    def clear(self) -> None:
        """Forget everything noted."""
        for of_device in self._by_device.values():
            for descriptor in of_device.values():
                os.close(descriptor)
        self._by_device.clear()
        self._ways.clear()


def begin_to_write(descriptor: int) -> None:
    """Have the kernel begin to write one file to its medium, without waiting for it.

    While a batch is copied its medium would otherwise be idle, and be waited for afterwards. This
    promises nothing: only a sync does.

    Raises
    ------
    OSError
        It cannot be written.
    """
    _sync_range(descriptor, _WRITE)


def require_written(descriptor: int) -> None:
    """Check that no write of one file has failed.

    A sync of the whole file system does not tell if somebody else's sync was told before it. Each
    open file is told once, and this costs no more than asking.

    Raises
    ------
    OSError
        One has.
    """
    _sync_range(descriptor, _WAIT_BEFORE)


def _sync_range(descriptor: int, flags: int) -> None:
    if _libc.sync_file_range(descriptor, _FROM, _TO_END, flags) != 0:
        code = ctypes.get_errno()
        # Not every file system can be asked.
        if code not in (errno.ENOSYS, errno.EINVAL, errno.ESPIPE):
            raise OSError(code, os.strerror(code))


def _syncfs(descriptor: int) -> None:
    if _libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
