"""Copies in a storage area's ``.incoming`` that an earlier run of a finder has left."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Final

from buffer import placing, steps, storages
from buffer.duplicates import has_content
from buffer.models import File
from buffer.names import INCOMING_DIR, escape
from buffer.passage import Passage
from buffer.trees import Tree

logger = logging.getLogger(__name__)

_KEPT: Final = "lost-"


def kept_name(checksum: str) -> str:
    """Name what may be all that there is of a file.

    A name that tells the content is found again if we die before anybody is told.
    """
    return f"{_KEPT}{checksum[:16]}"


def kept_copies(target: Tree) -> list[str]:
    """Give the paths, below a storage area, of all copies that were kept."""
    names = sorted(os.listdir(storages.incoming(target)))
    return [f"{INCOMING_DIR}/{name}" for name in names if name.startswith(_KEPT)]


class Copies:
    """The copies of one finder; those of others are left alone.

    Parameters
    ----------
    passage : `Passage`
        Whose copies: their names begin with its prefix.
    """

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self._unread: set[str] = set()

    @property
    def directory(self) -> int:
        """Descriptor of the directory where they are."""
        return storages.incoming(self._passage.target)

    def include(self, state: os.stat_result) -> bool:
        """Tell whether a file is one of them, under another name."""
        return any(placing.is_same_file(state, self.directory, name) for name in self._names())

    @contextlib.contextmanager
    def opened(self, file: File) -> Iterator[tuple[str, int] | None]:
        """Open the one that has a file's content; give its name and descriptor, if there is one."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        for name in self._names():
            descriptor = os.open(name, flags, dir_fd=self.directory)
            try:
                if self._has_content(name, descriptor, file):
                    yield name, descriptor
                    return
            finally:
                os.close(descriptor)
        yield None

    def _has_content(self, name: str, descriptor: int, file: File) -> bool:
        try:
            return has_content(descriptor, file)
        except OSError as error:
            # It may be all that there is of an arrival.
            self._unread.add(name)
            shown = f"{INCOMING_DIR}/{escape(name)}"
            logger.warning("the copy %s cannot be read, and is left: %s", shown, error.strerror)
            return False

    def keep(self, file: File) -> str:
        """Keep what may be all that there is of a file, under a name that is never cleared away.

        Returns
        -------
        text : `str`
            Where it is kept, to end a sentence; empty if there is no copy.
        """
        kept = kept_name(file.checksum)
        with self.opened(file) as copy:
            if copy is not None:
                name, descriptor = copy
                with contextlib.suppress(FileExistsError):
                    placing.place(descriptor, self.directory, name, self.directory, kept)
                if self._passage.fsync:
                    os.fsync(descriptor)
                    os.fsync(self.directory)
                steps.reached("copy kept")
            elif kept not in os.listdir(self.directory):
                return ""
        return f". What had been read of it is kept as {INCOMING_DIR}/{kept} in the storage"

    def clear(self) -> None:
        """Delete all but what is kept, and what could not be read."""
        for name in self._names():
            if name not in self._unread:
                os.unlink(name, dir_fd=self.directory)

    def _names(self) -> list[str]:
        return sorted(
            name
            for name in os.listdir(self.directory)
            if name.startswith(self._passage.staging) and name.endswith(".part")
        )
