"""What the kernel tells of changes in directories: inotify, one watch for each directory.

`inotify_simple` hands the kernel's interface through as it is. The packages that watch whole trees
by themselves follow symbolic links out of them, or give up at a name that is not UTF-8, or do not
tell that notices were lost.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Final

from inotify_simple import INotify, flags

from buffer.discovery import is_walked

#: A file's own writes are not asked for: who is being written to is looked at when it is due.
_OF_FILES: Final = flags.CREATE | flags.MOVED_TO | flags.CLOSE_WRITE | flags.ATTRIB
_MASK: Final = _OF_FILES | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR | flags.EXCL_UNLINK
_NEW_DIRECTORY: Final = flags.CREATE | flags.MOVED_TO
_SELF: Final = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT


#: File systems that other hosts may write to. FUSE's may be, whatever comes after the dot.
NETWORK: Final = frozenset(
    """9p afs beegfs ceph cifs coda fuse gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs
    pvfs2 smb3 smbfs virtiofs""".split()  # noqa: SIM905 (a list of them is twenty lines)
)


@dataclass(slots=True)
class Changes:
    """What changed since it was last asked for.

    Attributes
    ----------
    files : `dict` [`tuple` [`str`, `str`], `None`]
        Directory and name of what was made, moved here, closed after writing, or given another
        owner, mode or time; in this order, each once.
    directories : `dict` [`str`, `None`]
        Directories that are new at their place, and are not watched yet.
    lost : `bool`
        There was more, of which nothing is known: only a full scan helps.
    """

    files: dict[tuple[str, str], None] = field(default_factory=dict)
    directories: dict[str, None] = field(default_factory=dict)
    lost: bool = False


class Notices:
    """The kernel's notices from the directories of one tree.

    Raises
    ------
    OSError
        The kernel gives no more of them to this user (``fs.inotify.max_user_instances``).
    """

    def __init__(self) -> None:
        self._inotify = INotify()
        self._relpaths: dict[int, str] = {}
        self._entered: set[int] = set()

    def fileno(self) -> int:
        """Give the descriptor that is readable when there are notices."""
        return int(self._inotify.fileno())

    def close(self) -> None:
        """Watch nothing any more."""
        self._inotify.close()

    def enter(self, relpath: str, descriptor: int) -> None:
        """Watch a directory; to be called before it is listed, or what comes between is lost.

        A directory that moved keeps its watch and gets its new path.

        Raises
        ------
        OSError
            ENOSPC: the kernel's limit is reached (``fs.inotify.max_user_watches``).
        """
        # By its descriptor: by its path it might be another one by now.
        watch = self._inotify.add_watch(f"/proc/self/fd/{descriptor}", _MASK)
        self._relpaths[watch] = relpath
        self._entered.add(watch)

    def begin_scan(self) -> None:
        """Begin to enter every directory that there is."""
        self._entered.clear()

    def end_scan(self) -> None:
        """Watch no directory any more that was not entered since the scan began: it moved away."""
        for watch in self._relpaths.keys() - self._entered:
            del self._relpaths[watch]
            with contextlib.suppress(OSError):  # its directory is gone, and it with it
                self._inotify.rm_watch(watch)

    def read(self) -> Changes:
        """Give what has changed since the last time, without waiting."""
        changes = Changes()
        for watch, mask, _, name in self._inotify.read(timeout=0):
            relpath = self._relpaths.get(watch)
            if mask & flags.Q_OVERFLOW:
                changes.lost = True
            elif relpath is None:
                continue
            elif mask & flags.IGNORED:
                del self._relpaths[watch]
            elif mask & _SELF:
                # Below the top, the directory above tells where it went.
                changes.lost |= not relpath or bool(mask & flags.UNMOUNT)
            elif not mask & flags.ISDIR:
                if name:
                    changes.files[relpath, name] = None
            elif mask & _NEW_DIRECTORY and is_walked(relpath, name):
                changes.directories[f"{relpath}/{name}" if relpath else name] = None
        return changes


def why_silent(descriptor: int) -> str:
    """Say why the kernel tells nothing of a directory, if it lies on a network file system.

    Who changes a file on another host does so unseen by this one's kernel.

    Returns
    -------
    reason : `str`
        '' where the kernel can be relied upon.
    """
    device = os.fstat(descriptor).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            before, _, after = line.partition(" - ")
            kind = after.partition(" ")[0]
            if before.split()[2] == wanted and kind.partition(".")[0] in NETWORK:
                return f"the file system {kind} does not tell of what other hosts do"
    return ""
