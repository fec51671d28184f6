"""Searching by the kernel's notices: everything now and then, between that only what changed.

Between two full scans a cycle costs what has arrived, however much lies in the buffer. A full scan
finds what no notice told of, and is all there is where the kernel tells nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import stat as stat_module
import time
from collections.abc import Callable, Container, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from buffer.discovery import CHUNK_SIZE, Arrival, Known, OnError, Skip, is_passed_over, scan, sort
from buffer.inotify import Changes, Notices, why_silent
from buffer.search import Walk
from buffer.settling import Settling, state_of
from buffer.trees import Tree

logger = logging.getLogger(__name__)

#: Between full scans; seconds.
RESCAN_S: Final = 30.0
#: Where the kernel refused to tell, until it is asked again; seconds.
RETRY_S: Final = 600.0
#: A directory or a file that is not there any more.
_GONE: Final = (FileNotFoundError, NotADirectoryError)


class WatchSearch(Walk):
    """What a finder with ``search.method: watch`` looks at.

    Parameters
    ----------
    root : `pathlib.Path`
        The buffer.
    skip, onerror, known : callable
        As for `buffer.discovery.scan`.
    settling : `Settling`
        What is known of files that may still be written.
    steady : callable, optional
        A clock that is never set.

    """

    def __init__(
        self,
        root: Path,
        skip: Skip | None,
        onerror: OnError,
        settling: Settling,
        *,
        known: Known | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(root, skip, onerror, known=known)
        self._settling, self._steady = settling, steady
        self._notices: Notices | None = None
        self._watched: tuple[int, int] | None = None
        self._again: dict[str, None] = {}
        self._scan_at = self._ask_at = steady()
        self._said = ""

    @property
    def wakes(self) -> Notices | None:
        """What becomes readable when something changes; None while this works as ``scan``."""
        return self._notices

    def begin(self, source: Tree, storage: Tree) -> None:
        self._source = source

    def look_at_everything(self) -> None:
        self._scan_at = self._steady()

    def look_again(self, paths: Iterable[str]) -> None:
        self._again.update(dict.fromkeys(paths))

    def pause_s(self, pause: float) -> float:
        if self._notices is None:
            return pause
        until_scan = max(0.0, self._scan_at - self._steady())
        longest = min(pause, until_scan) if self._again else until_scan
        return max(0.0, min(longest, self._settling.due_in()))

    def finish(self, waiting: int) -> int:
        if not self.whole:
            return len(self._settling) + len(self._again)
        if self._notices is not None:
            self._notices.end_scan()
        self._scan_at = self._steady() + RESCAN_S
        return waiting

    def arrivals(self) -> Iterator[Arrival]:
        changes = self._changes()
        self.whole = changes is None
        again, self._again = self._again, {}
        if changes is None:
            self._begin_scan()
            yield from scan(
                self._root,
                skip=self._skip,
                known=self._known,
                onerror=self._onerror,
                onenter=self._enter,
            )
            return
        # Nothing may come twice in one look.
        walked = {path for path in changes.directories if not _is_below(path, changes.directories)}
        for directory in sorted(walked):
            # Whatever its files say of their age: they were not here before.
            yield from map(self._note, self._walk(directory))
        fresh = {
            f"{relpath}/{name}" if relpath else name: None
            for relpath, name in changes.files
            if not is_passed_over(relpath, name, self._skip)
        }
        for chunk in self._look(path for path in fresh if not _is_below(path, walked)):
            yield from map(self._note, chunk)
        again.update(dict.fromkeys(self._settling.due()))
        rest = (path for path in again if path not in fresh and not _is_below(path, walked))
        for chunk in self._look(rest):
            yield from chunk

    def _changes(self) -> Changes | None:
        """Give what changed; None if everything must be looked at."""
        if self._notices is None or self._steady() >= self._scan_at:
            return None
        top = os.fstat(self._source.descriptor)
        if (top.st_dev, top.st_ino) != self._watched:
            return None
        changes = self._notices.read()
        if changes.lost:
            logger.info("the kernel's notices were lost; looking through the whole buffer")
            return None
        return changes

    def _begin_scan(self) -> None:
        top = os.fstat(self._source.descriptor)
        if self._notices is None and self._steady() >= self._ask_at:
            try:
                if reason := why_silent(self._source.descriptor):
                    self._go_without(reason)
                else:
                    self._notices = Notices()
            except OSError as error:
                self._go_without(_why(error, "fs.inotify.max_user_instances"))
        if self._notices is not None:
            self._notices.begin_scan()
            # What they tell is about to be seen.
            self._notices.read()
            self._watched = top.st_dev, top.st_ino

    def _enter(self, relpath: str, descriptor: int) -> None:
        if self._notices is None:
            return
        try:
            self._notices.enter(relpath, descriptor)
        except _GONE:
            pass
        except OSError as error:
            self._go_without(_why(error, "fs.inotify.max_user_watches"))

    def _go_without(self, reason: str) -> None:
        if self._notices is not None:
            self._notices.close()
            self._notices = None
        self._ask_at = self._steady() + RETRY_S
        if reason != self._said:
            logger.warning("search.method watch works as scan: %s", reason)
        self._said = reason

    def _walk(self, directory: str) -> Iterator[Arrival]:
        def onerror(path: str, error: OSError) -> None:
            if not (path == directory and isinstance(error, _GONE)):
                self._onerror(path, error)

        return scan(
            self._root,
            skip=self._skip,
            known=self._known,
            onerror=onerror,
            onenter=self._enter,
            below=directory,
        )

    def _look(self, paths: Iterator[str]) -> Iterator[list[Arrival]]:
        while part := list(islice(paths, CHUNK_SIZE)):
            self._source.forget()
            chunk = [
                arrival
                for arrival in map(self._arrival, part)
                if arrival is not None
                and not (self._known and self._known(arrival.path, arrival.stat))
            ]
            sort(chunk)
            yield chunk

    def _arrival(self, path: str) -> Arrival | None:
        relpath, _, name = path.rpartition("/")
        try:
            stat = self._source.stat(relpath, name)
            # A directory in a file's place is told of by itself.
            if not stat_module.S_ISDIR(stat.st_mode):
                return Arrival(relpath, name, stat)
        except _GONE:
            pass
        except OSError as error:
            # A directory on the way may have become a symbolic link.
            if error.errno != errno.ELOOP:
                self._onerror(path, error)
        self._settling.forget(path)
        return None

    def _note(self, arrival: Arrival) -> Arrival:
        """Count an arrival's quiet time from now: it has just changed."""
        if arrival.is_regular:
            self._settling.restart(arrival.path, state_of(arrival.stat))
        return arrival


def _is_below(path: str, directories: Container[str]) -> bool:
    while above := path.rpartition("/")[0]:
        if above in directories:
            return True
        path = above
    return False


def _why(error: OSError, limit: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EMFILE):
        return f"the kernel's limit {limit} is reached; raise it"
    return f"the kernel tells nothing: {error.strerror}"
