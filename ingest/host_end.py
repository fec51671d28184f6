"""The end of a plugin's process, and of all that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from ingest.host_protocol import TOKEN_VARIABLE


def kill_marked(token: str) -> None:
    """Kill processes that carry a host's token, for those that left its process group."""
    mark = f"{TOKEN_VARIABLE}={token}".encode("ascii")
    for _ in range(50):
        found = False
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                environ = Path(entry.path, "environ").read_bytes()
            except OSError:
                continue
            if mark in environ.split(b"\0"):
                found = True
                with contextlib.suppress(OSError):
                    os.kill(int(entry.name), signal.SIGKILL)
        if not found:
            return
        # Dying takes a moment, and one that forked meanwhile has left another.
        time.sleep(0.005)


def how_it_ended(status: int | None) -> str:
    """Say what a process's exit status tells; None: it cannot be killed."""
    if status is None:
        return "hangs in the kernel"
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "an unnamed signal"
    hint = ", perhaps for lack of memory" if -status == signal.SIGKILL else ""
    return f"was killed by signal {-status} ({name}{hint})"
