"""Signals that ask a command to stop."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_latest: StopSignals | None = None


def stop_requested() -> bool:
    """Tell whether this process was asked to stop; what it still does after that is tidying up."""
    return _latest is not None and _latest.requested


class StopSignals:
    """Turn SIGTERM, SIGINT and SIGHUP into a flag that the command's loop looks at.

    The handler only sets a flag and wakes the loop: anything more (an ``Event``, logging, a query)
    can deadlock with what it interrupted. A second signal changes nothing, so that an impatient
    operator does not turn a clean stop into a dirty one. The old handlers come back on leaving;
    but after a request the process is about to end, and ignores what comes while it does.
    In any other than the main thread Python allows no handlers; there the flag just stays down.

    Examples
    --------
    >>> with StopSignals() as stop:
    ...     while not stop.requested:
    ...         work()
    ...         stop.wait(1.0)
    """

    def __init__(self) -> None:
        self.requested = False
        self.signum: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._pipe: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        global _latest
        _latest = self
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        if threading.current_thread() is threading.main_thread():
            for signum in STOP_SIGNALS:
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, handler in self._previous.items():
            former = signal.SIG_DFL if handler is None else handler
            # Ignored is what stays ignored while Python tidies up; its own handlers do not.
            signal.signal(signum, signal.SIG_IGN if self.requested else former)
        self._previous.clear()
        if self._pipe is not None:
            for end in self._pipe:
                os.close(end)
            self._pipe = None

    def wait(self, seconds: float) -> bool:
        """Sleep, but not past a signal.

        Parameters
        ----------
        seconds
            How long to sleep at most.

        Returns
        -------
        bool
            Whether a stop was requested.
        """
        if self.requested or seconds <= 0:
            return self.requested
        if self._pipe is None:
            time.sleep(seconds)
        else:
            select.select([self._pipe[0]], [], [], seconds)
        return self.requested

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.signum = signal.Signals(signum)
            self.requested = True
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.write(self._pipe[1], b"!")
