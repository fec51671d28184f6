"""How far a long piece of work is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

logger = logging.getLogger(__name__)

LINE_EVERY_S: Final = 10.0
_DRAW_EVERY_S: Final = 0.2
#: Rates are those of the last seconds.
_RECENT_S: Final = 30.0
#: What a file costs beside its bytes, in bytes: small files take time too.
_FILE_BYTES: Final = 1 << 18


class Amount(NamedTuple):
    """Files, and their bytes."""

    files: int = 0
    size_bytes: int = 0

    def plus(self, files: int, size_bytes: int) -> Amount:
        """Give the sum."""
        return Amount(self.files + files, self.size_bytes + size_bytes)

    @property
    def effort(self) -> int:
        """What they cost, in something like bytes."""
        return self.files * _FILE_BYTES + self.size_bytes


class Pace:
    """Rates and the time left, from what was done lately.

    Parameters
    ----------
    clock : callable, optional
        Gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, Amount]] = deque([(clock(), Amount())])

    def saw(self, done: Amount) -> None:
        """Note how much is done by now."""
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _RECENT_S:
            self._seen.popleft()

    def text(self, total: Amount | None) -> str:
        """Describe it; `total` is None as long as it is not known."""
        (began, before), (now, done) = self._seen[0], self._seen[-1]
        seconds = max(now - began, 1e-3)
        files_per_s = (done.files - before.files) / seconds
        mb_per_s = (done.size_bytes - before.size_bytes) / seconds / 1e6
        parts = [
            f"{done.files:,} files (counting)"
            if total is None
            else f"{done.files:,} of {total.files:,} files",
            f"{files_per_s:,.0f} files/s",
        ]
        # Not everything that takes long reads files.
        if done.size_bytes or (total is not None and total.size_bytes):
            parts.append(f"{mb_per_s:,.1f} MB/s")
        effort_per_s = (done.effort - before.effort) / seconds
        if total is not None and effort_per_s > 0:
            left = max(0, total.effort - done.effort) / effort_per_s
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Write a time as a person would: 5 s, 3:20 min, 2:05 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


class Progress:
    """Shows progress while it is open.

    On a terminal a bar on standard error, redrawn by whoever calls `show` (a thread that did it
    would be forked into the workers); otherwise a line now and then.

    Parameters
    ----------
    say : callable, optional
        Where lines go; by default into the log.
    every_s : `float`, optional
        Seconds between two lines.
    """

    def __init__(
        self, say: Callable[[str], object] | None = None, every_s: float = LINE_EVERY_S
    ) -> None:
        self._say, self._every_s = say or _log, every_s
        self._pace = Pace()
        self._bar: Bar | None = None
        self._next = time.monotonic() + every_s
        if self.is_watched():
            self._next = 0.0
            self._bar = Bar(
                BarColumn(),
                TextColumn("{task.description}"),
                console=Console(file=sys.stderr),
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._bar.add_task("", total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()

    @staticmethod
    def is_watched() -> bool:
        """Tell whether there is a terminal to show a bar on."""
        return sys.stderr.isatty()

    def clear(self) -> None:
        """Make room for a line on the same terminal; the bar comes back when it is next shown."""
        if self._bar is not None:
            self._bar.console.file.write("\r\x1b[2K")
            self._bar.console.file.flush()

    def show(self, done: Amount, total: Amount | None, *, last: bool = False) -> None:
        """Show where we are, if it is time to.

        Parameters
        ----------
        done : `Amount`
            What is done.
        total : `Amount` or `None`
            What there is; None as long as that is not known.
        last : `bool`, optional
            It is the end: show it in any case.
        """
        now = time.monotonic()
        if now < self._next and not last:
            return
        self._pace.saw(done)
        if self._bar is not None:
            self._next = now + _DRAW_EVERY_S
            self._bar.update(
                self._bar.task_ids[0],
                description=self._pace.text(total),
                completed=done.effort,
                total=None if total is None else total.effort,
                refresh=True,
            )
        elif not last:
            self._next = now + self._every_s
            self._say(self._pace.text(total))


def _log(text: str) -> None:
    logger.info("%s", text)
