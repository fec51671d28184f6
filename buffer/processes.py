"""What Linux offers for processes that must not outlive each other: prctl and /proc."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table; ``started`` (clock ticks) tells a reused pid apart."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started: int

    def kill(self) -> None:
        """Kill this process unless it is gone already."""
        now = read_process(self.pid)
        if now is not None and now.started == self.started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)

    @property
    def alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        now = read_process(self.pid)
        return now is not None and now.started == self.started and now.state not in "ZX"


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends.

    Parameters
    ----------
    parent
        The pid of the process that forked this one.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def name_process(name: str) -> None:
    """Show `name` (its first 15 bytes) in ps, top and pgrep."""
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def has_exited(pid: int) -> bool:
    """Tell whether our child `pid` has ended, without reaping it.

    As long as it is not reaped neither its pid nor its process group can be given to others, so
    that the group can be killed without hitting a stranger.
    """
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def read_process(pid: int) -> Process | None:
    """Look one process up; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name stands in parentheses and may itself hold spaces and parentheses.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        started=int(fields[19]),
    )


def children(pid: int) -> list[Process]:
    """List the direct children of a process."""
    try:
        pids = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except FileNotFoundError:  # gone, or a kernel without CONFIG_PROC_CHILDREN
        return [process for process in _table() if process.parent == pid]
    return [process for child in pids if (process := read_process(child)) is not None]


def descendants(pid: int) -> list[Process]:
    """List the children of a process, their children, and so on."""
    by_parent: dict[int, list[Process]] = {}
    for process in _table():
        by_parent.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    todo = [pid]
    while todo:
        below = by_parent.get(todo.pop(), [])
        found += below
        todo += [process.pid for process in below]
    return found


def kill_all(victims: list[Process], within_s: float = 5.0) -> list[Process]:
    """Kill processes and wait until they are gone; return those that are not."""
    end = time.monotonic() + within_s
    while left := [process for process in victims if process.alive]:
        for process in left:
            process.kill()
        if time.monotonic() > end:
            break
        time.sleep(0.01)
    return left


def kill_family(pid: int) -> list[Process]:
    """Kill our child `pid`, the group that it leads, and everything below it.

    Parameters
    ----------
    pid
        Not reaped yet, so that its number and that of its group are still its own.

    Returns
    -------
    list of Process
        Descendants that could not be killed (they hang in the kernel).
    """
    below = descendants(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
        os.killpg(pid, signal.SIGKILL)
    return kill_all(below)


def _table() -> list[Process]:
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [process for pid in pids if (process := read_process(pid)) is not None]
