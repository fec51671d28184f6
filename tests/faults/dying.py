"""Processes that die at a step of a protocol."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

from django.db import connections

from buffer import steps


def in_child(work: Callable[[], None]) -> int:
    """Run something in a forked process with a connection of its own; give its exit status."""
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at(number: int, before: Callable[[int], None] | None = None) -> Callable[[], None]:
    """Give a fault: SIGKILL at a step of the protocol, counted from 1.

    Parameters
    ----------
    number
        Of the step.
    before
        Called at each step, with its number.
    """

    def fault() -> None:
        count = 0

        def reached(_: str) -> None:
            nonlocal count
            count += 1
            if before is not None:
                before(count)
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

        steps.reached = reached

    return fault
