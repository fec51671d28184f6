"""The plugin host's child: loads one plugin and does what the parent says, line by line.

Started as ``python -m ingest.host_child COMMAND_FD OUTPUT_FD PARENT_PID``.  The plugin runs
here and only here, so whatever it does to its process, it does to nobody else.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from ingest.host_protocol import describe, encode, shorten
from ingest.plugins import load
from ingest.plugins.base import PluginConfigError

PR_SET_PDEATHSIG = 1

#: Junk is reported this many times per call; a plugin may yield it by the million.
MAX_JUNK = 20


class Session:
    """One plugin and the conversation about it.

    Parameters
    ----------
    write : Callable[[bytes], None]
        Sends one line to the parent.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._plugin: Any = None

    def serve(self, commands: BinaryIO) -> None:
        """Obey commands until ``close`` or the end of the stream."""
        for line in commands:
            command = json.loads(line)
            if command["type"] == "close":
                return
            self._obey(command)

    def _obey(self, command: dict[str, Any]) -> None:
        try:
            match command["type"]:
                case "load":
                    self._load(command)
                case "ingest":
                    self._ingest(command["paths"])
                case "contains":
                    self._contains(command["paths"])
        except BaseException as error:
            # A plugin may raise anything, SystemExit and KeyboardInterrupt included (SIGINT is
            # ignored here, so it is never the operator's); none of it may end the host.
            traceback.print_exc()
            self._send("raised", message=describe(error), exit=isinstance(error, SystemExit))

    def _load(self, command: dict[str, Any]) -> None:
        sys.path[:] = list(dict.fromkeys([*command["path"], *sys.path]))
        try:
            self._plugin = load(command["plugin"])(command["config"])
            version = str(self._plugin.version())
        except PluginConfigError as error:
            self._send("config_error", message=shorten(str(error)))
        except BaseException as error:
            traceback.print_exc()
            self._send("unavailable", message=describe(error))
        else:
            self._send(
                "loaded",
                version=shorten(version, 200),
                in_order=getattr(self._plugin, "in_order", False) is True,
                contains=callable(getattr(self._plugin, "contains", None)),
            )

    def _ingest(self, paths: list[str]) -> None:
        waiting = set(paths)
        junk = 0
        # From here on the files may be in the target; before, they are certainly not.
        self._send("begun")
        for outcome in self._plugin.ingest(paths):
            try:
                fields = _fields(outcome, waiting)
            except BaseException as error:
                junk += 1
                if junk <= MAX_JUNK:
                    self._send("junk", message=describe(error))
                continue
            waiting.discard(fields["path"])
            self._send("outcome", **fields)
        self._send("done")

    def _contains(self, paths: list[str]) -> None:
        asked = set(paths)
        answer = self._plugin.contains(paths)
        if isinstance(answer, str | bytes):
            raise TypeError(f"contains() returned {_short_repr(answer)}, expected a collection")
        self._send("contained", paths=[path for path in _strings(answer) if path in asked])

    def _send(self, kind: str, **fields: Any) -> None:
        self._write(encode({"type": kind, **fields}))


def _fields(outcome: Any, waiting: set[str]) -> dict[str, Any]:
    """Return an outcome as it goes over the pipe; raise ValueError if it is none."""
    if not hasattr(outcome, "path") or not hasattr(outcome, "ok"):
        raise ValueError(f"expected an Outcome, the plugin yielded {_short_repr(outcome)}")
    path = os.fspath(outcome.path)
    if path not in waiting:
        raise ValueError(
            f"outcome for {_short_repr(path)}, which was not asked for or has an outcome already"
        )
    if outcome.ok not in (True, False):
        raise ValueError(f"outcome's ok: expected a boolean, got {_short_repr(outcome.ok)}")
    return {
        "path": path,
        "ok": bool(outcome.ok),
        "message": _text(getattr(outcome, "message", "")),
        "transient": getattr(outcome, "transient", False) is True,
    }


def _text(message: Any) -> str:
    """Return a message as text: an exception or a path as message is no reason to lose it."""
    if message is None:
        return ""
    if isinstance(message, BaseException):
        return describe(message)
    try:
        return shorten(str(message))
    except BaseException:
        return f"(a message of type {type(message).__name__} that cannot be shown)"


def _short_repr(value: Any) -> str:
    try:
        return ascii(value)[:200]
    except BaseException:
        return f"a {type(value).__name__}"


def _strings(values: Iterable[Any]) -> Iterable[str]:
    return (os.fspath(value) for value in values)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies, or leave if it is dead already.

    Done here instead of in a ``preexec_fn``, which may deadlock where the parent has threads.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        print("parent-death signal could not be set", file=sys.stderr)
    if os.getppid() != parent_pid:
        os._exit(1)


def reset_signals() -> None:
    """Undo what the parent blocked or ignored; only Ctrl-C stays the parent's business."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    for number in signal.valid_signals():
        # SIGPIPE stays ignored, as Python wants it: a broken pipe is an exception.
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def writer(output_fd: int) -> Callable[[bytes], None]:
    """Return the function that sends lines to the parent from this very process."""
    pid = os.getpid()

    def write(line: bytes) -> None:
        if os.getpid() != pid:
            # The plugin forked and its child came back here: it must not speak for the host.
            os._exit(0)
        view = memoryview(line)
        while view:
            try:
                view = view[os.write(output_fd, view) :]
            except OSError:
                # Parent gone, or the plugin closed the pipe: nobody can be told anything.
                os._exit(70)

    return write


def main(argv: list[str]) -> None:
    """Prepare the process and serve until the parent has had enough."""
    command_fd, output_fd, parent_pid = (int(arg) for arg in argv[1:])
    die_with_parent(parent_pid)
    reset_signals()
    # Programs that the plugin starts must not keep the host's pipes open.
    os.set_inheritable(command_fd, False)
    os.set_inheritable(output_fd, False)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as adjust:
        # If memory runs out, this process is the one that can be spared.
        adjust.write("1000")
    faulthandler.enable()
    # Ours was for finding this module; programs started by the plugin get the user's own.
    original = os.environ.pop("ENDPOINT_PLUGIN_PYTHONPATH", None)
    if original is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = original
    with open(command_fd, "rb") as commands:
        Session(writer(output_fd)).serve(commands)


if __name__ == "__main__":
    main(sys.argv)
