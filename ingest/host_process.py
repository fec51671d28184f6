"""One child process of a plugin host: started, spoken to, and ended with all its offspring.

Nothing here waits for longer than it was told to, whatever the process at the other end does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ingest.host_end import how_it_ended, kill_marked
from ingest.host_environment import environment
from ingest.host_protocol import MAX_LINE, decode, encode, printable

logger = logging.getLogger(__name__)

#: Longest wait without a tick, in seconds.
TICK_S = 0.25

#: How much of a process's last output is kept, in bytes.
TAIL_BYTES = 4096


class ProcessGone(Exception):
    """The process died, or has to be ended because of what it did (or did not) do.

    Parameters
    ----------
    reason : str or None
        Why it has to be ended; None if it died by itself.
    """

    def __init__(self, reason: str | None) -> None:
        super().__init__(reason or "died")
        self.reason = reason


class HostProcess:
    """A running child and the three pipes to it.

    It must be started from a thread that lives as long as it does: the kernel sends the
    parent-death signal when the *thread* that made the child ends.
    """

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self._ended = False
        self._tail = b""
        self._next_tick = 0.0
        self._to_send = bytearray()
        self._lines: deque[bytes] = deque()
        self._begun_line = b""
        command_read, self._command = os.pipe()
        self._output, output_write = os.pipe()
        stderr_read, stderr_write = os.pipe()
        self._pidfd = -1
        try:
            self._popen = subprocess.Popen(
                [
                    sys.executable,
                    "-u",
                    "-m",
                    "ingest.host_child",
                    str(command_read),
                    str(output_write),
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                # A plugin's prints go where its errors go; the protocol has a pipe of its own.
                stdout=stderr_write,
                stderr=stderr_write,
                pass_fds=(command_read, output_write),
                start_new_session=True,
                env=environment(self.token),
            )
        except BaseException:
            for fd in (self._command, self._output, stderr_read):
                os.close(fd)
            raise
        finally:
            for fd in (command_read, output_write, stderr_write):
                os.close(fd)
        self.pid = self._popen.pid
        os.set_blocking(self._command, False)
        os.set_blocking(self._output, False)
        self._drain_thread = threading.Thread(
            target=self._drain, args=(stderr_read,), name="plugin-stderr", daemon=True
        )
        self._drain_thread.start()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        # Without pidfds (an old kernel, a strict sandbox) death is noticed at the next tick.
        with contextlib.suppress(OSError, AttributeError):
            self._pidfd = os.pidfd_open(self.pid)
            self._selector.register(self._pidfd, selectors.EVENT_READ)

    def exited(self) -> bool:
        """Return whether the process has died; it is not reaped, so its group stays ours."""
        if self._ended:
            return True
        try:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, options) is not None
        except ChildProcessError:
            return True  # somebody else reaped it

    def send(self, message: Mapping[str, Any]) -> None:
        """Queue a message; it is written while `receive` waits, so it cannot block."""
        if not self._to_send:
            with contextlib.suppress(KeyError):
                self._selector.register(self._command, selectors.EVENT_WRITE)
        self._to_send += encode(message)

    def receive(self, deadline: float, tick: Callable[[], None] | None) -> dict[str, Any]:
        """Wait for the next message.

        Parameters
        ----------
        deadline : float
            `time.monotonic` value after which the wait ends.
        tick : Callable or None
            Called at least every 0.25 s; may raise to end the wait.

        Raises
        ------
        ProcessGone
            If the process died or broke the protocol.
        TimeoutError
            If the deadline passed.
        """
        eof_at: float | None = None
        while True:
            if tick is not None and time.monotonic() >= self._next_tick:
                tick()
                self._next_tick = time.monotonic() + TICK_S
            if (message := self._next_message()) is not None:
                return message
            dead = self.exited()
            now = time.monotonic()
            wait = 0.0 if dead else max(0.0, min(TICK_S, deadline - now))
            came = self._exchange(wait)
            if came is None:
                # The pipe is closed, which is what dying looks like from here; only a plugin
                # that closes descriptors which are not its own goes on living after it.
                eof_at = eof_at or time.monotonic()
                if not dead and time.monotonic() - eof_at > 2.0:
                    raise ProcessGone("closed the pipe to its host")
            elif came:
                continue
            if dead:
                raise ProcessGone(None)
            if time.monotonic() >= deadline:
                raise TimeoutError

    def unread(self) -> Iterator[dict[str, Any]]:
        """Give the messages that had come before the process was ended and were not received."""
        while self._lines:
            with contextlib.suppress(ValueError):
                yield decode(self._lines.popleft())

    def _exchange(self, wait: float) -> bool | None:
        """Write and read what the pipes take; return whether bytes came, None at their end."""
        came: bool | None = False
        for key, _ in self._selector.select(wait):
            if key.fd == self._command:
                self._write_some()
            elif key.fd == self._output:
                came = self._read_some()
        if came is False and self._output not in self._selector.get_map():
            return None
        return came

    def _write_some(self) -> None:
        try:
            written = os.write(self._command, self._to_send[:65536])
        except BlockingIOError:
            return
        except OSError:
            self._to_send.clear()  # nobody reads any more; its death is about to be seen
        else:
            del self._to_send[:written]
        if not self._to_send:
            self._selector.unregister(self._command)

    def _read_some(self) -> bool | None:
        try:
            chunk = os.read(self._output, 65536)
        except BlockingIOError:
            return False
        if not chunk:
            self._selector.unregister(self._output)
            return None
        *lines, self._begun_line = (self._begun_line + chunk).split(b"\n")
        self._lines += lines
        return True

    def _next_message(self) -> dict[str, Any] | None:
        if not self._lines:
            if len(self._begun_line) > MAX_LINE:
                raise ProcessGone(f"sent a line of more than {MAX_LINE} bytes to its host")
            return None
        try:
            return decode(self._lines.popleft())
        except ValueError as error:
            raise ProcessGone("wrote into the pipe to its host") from error

    def forget_output(self) -> None:
        """Drop the kept output, which belongs to what was done before."""
        self._tail = b""

    def last_output(self) -> str:
        """Return the end of what the process wrote to its standard output and error."""
        return printable(self._tail.decode("utf-8", "backslashreplace")).strip()

    def _drain(self, fd: int) -> None:
        """Read standard error for ever (a thread's work), so that it never fills up."""
        while chunk := os.read(fd, 65536):
            logger.debug("plugin process %d: %s", self.pid, _Tail(chunk))
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]
        os.close(fd)

    def close(self, grace_s: float = 2.0) -> None:
        """Ask the process to end, wait a little, then end whatever is left."""
        if self._ended:
            return
        self.send({"type": "close"})
        deadline = time.monotonic() + grace_s
        with contextlib.suppress(ProcessGone, TimeoutError):
            while True:
                self.receive(deadline, None)
        self.end()

    def end(self, reason: str | None = None) -> str:
        """Kill the process and all that it started; return how it ended.

        Parameters
        ----------
        reason : str or None
            Why it is killed; None if it died by itself, then its status is described.
        """
        if self._ended:
            return reason or "had ended already"
        # The leader is not reaped yet, so its group's number cannot belong to anybody else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._ended = True
        try:
            status: int | None = self._popen.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            status = None
            logger.error(
                "plugin process %d does not die of SIGKILL; it hangs in the kernel, probably on "
                "a file system that does not answer",
                self.pid,
            )
        kill_marked(self.token)
        # All that it said is in the pipe now, which holds a MiB at most, whoever else writes to it.
        for _ in range(16):
            if self._output not in self._selector.get_map() or not self._read_some():
                break
        # The thread owns its end of the pipe and closes it when the last writer is gone.
        self._drain_thread.join(timeout=1.0)
        self._selector.close()
        for fd in (self._command, self._output, self._pidfd):
            if fd >= 0:
                os.close(fd)
        return reason or how_it_ended(status)


class _Tail:
    """Output shown in a log line: only the end of it, and only if the line is written."""

    def __init__(self, chunk: bytes) -> None:
        self._chunk = chunk

    def __str__(self) -> str:
        return printable(self._chunk[-1024:].decode("utf-8", "backslashreplace")).strip()
