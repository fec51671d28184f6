"""Whether a file is complete: quiet for long enough, and open for writing by nobody we can see."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from buffer.names import SIDECAR, stems

State = tuple[int, int, int, int, int]


def state_of(stat: os.stat_result) -> State:
    """Device, inode, size, mtime and ctime: what changes when a file does."""
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@dataclass(slots=True)
class _Seen:
    state: State
    since: float
    scan: int
    #: Caught being written: its age by the file system's clock proves nothing.
    busy: bool = False


class Settling:
    """Remembers files that were seen, until they have been quiet for `delay` seconds.

    Parameters
    ----------
    delay : `float`
        Quiet time in seconds before a file counts as complete.
    wall, steady : callable, optional
        The clock of the file system's times, and one that is never set.
    """

    def __init__(
        self,
        delay: float,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.delay = delay
        self._wall, self._steady = wall, steady
        # The wall clock as it went on from here: a step of the clock shows as a difference.
        self._wall_at_start = wall() - steady()
        # In the order of `since`: whoever is counted afresh goes to the end.
        self._since: dict[str, _Seen] = {}
        self._scan = 0
        # When the present scan and the last complete one began, at the latest.
        self._began, self._last_began = steady(), -math.inf

    def is_settled(self, path: str, state: State) -> bool:
        """Tell whether a file has not changed for long enough.

        A file whose last change, by the file system's own clock, is long past need not be watched;
        this also bounds the memory when a full directory is found at start. ctime is used because
        writers may set mtime as they like. When the clock was stepped, neither reading of it may
        make a file look older than it is, so the younger of two ages counts. And as the clock of a
        file server may be wrong altogether, no file is older than the last complete scan, which
        did not find it.
        """
        now = self._steady()
        seen = self._since.get(path)
        age = min(self._wall(), self._wall_at_start + now) - state[4] / 1e9
        age = min(age, now - self._last_began)
        if age >= self.delay and not (seen is not None and seen.busy):
            self._since.pop(path, None)
            return True
        if seen is None or seen.state != state:
            self._count(path, _Seen(state, now, self._scan, seen is not None and seen.busy))
            return self.delay <= 0
        seen.scan = self._scan
        if now - seen.since < self.delay:
            return False
        del self._since[path]
        return True

    def is_waited_for(self, path: str) -> bool:
        """Tell whether a file was seen and is not settled yet."""
        return path in self._since

    def awaits_sidecar_of(self, path: str) -> bool:
        """Tell whether ``X.json`` is not settled yet, for a file ``X.fits`` or ``X.fits.fz``."""
        if not self._since or path.endswith(SIDECAR):
            return False
        above, slash, name = path.rpartition("/")
        return any(self.is_waited_for(f"{above}{slash}{stem}{SIDECAR}") for stem in stems(name))

    def restart(self, path: str, state: State) -> None:
        """Count the quiet time from now: the file was seen to change or to be written."""
        self._count(path, _Seen(state, self._steady(), self._scan, busy=True))

    def due(self) -> list[str]:
        """Give the paths whose quiet time is over, if they have not changed since."""
        now = self._steady()
        due = takewhile(lambda item: now - item[1].since >= self.delay, self._since.items())
        return [path for path, _ in due]

    def due_in(self) -> float:
        """Give the seconds until a path is due; infinity if none is waited for."""
        first = next(iter(self._since.values()), None)
        return math.inf if first is None else first.since + self.delay - self._steady()

    def forget(self, path: str) -> None:
        """Remember nothing of a path."""
        self._since.pop(path, None)

    def end_of_scan(self) -> None:
        """Forget every path that a complete scan did not find."""
        for path in [path for path, seen in self._since.items() if seen.scan != self._scan]:
            del self._since[path]
        self._scan += 1
        self._last_began, self._began = self._began, self._steady()

    def _count(self, path: str, seen: _Seen) -> None:
        self._since.pop(path, None)
        self._since[path] = seen

    def __len__(self) -> int:
        return len(self._since)


def is_open_for_writing(descriptor: int) -> bool | None:
    """Ask the kernel whether somebody on this host has the file open for writing.

    A read lease is granted only if nobody has. It is dropped at once, or a writer's next open
    would wait for us. The process must ignore SIGIO, by which the kernel tells of such an open.

    Returns
    -------
    writing : `bool` or `None`
        None where it cannot be told: the file belongs to somebody else, or its file system grants
        no leases. Then only the quiet time protects.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
