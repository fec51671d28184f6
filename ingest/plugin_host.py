"""The plugin host: a long-lived child process that has loaded a plugin once.

A plugin that crashes, exits or hangs takes only that process with it; whoever uses the host is
told how it ended, and starts it again.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from buffer.names import escape
from ingest.host_errors import HostDied, IngestRaised, PluginUnavailable
from ingest.host_process import HostProcess, ProcessGone
from ingest.host_protocol import printable
from ingest.plugins.base import Outcome, PluginConfigError

logger = logging.getLogger(__name__)

#: How long loading a plugin may take; seconds.
LOAD_TIMEOUT_S: Final = 120.0

Tick = Callable[[], None]


class PluginHost:
    """The parent's side of a plugin host.

    Parameters
    ----------
    plugin : str
        Dotted path of the plugin's class.
    config : Mapping[str, Any]
        The validated ``plugin.config``.
    load_timeout_s : float
        Deadline for importing and constructing the plugin, in seconds.

    Attributes
    ----------
    called : bool
        Whether the last call is known to have come to `ingest` of the plugin itself.

    Notes
    -----
    To be used by one thread, which must live as long as the host's process does.
    """

    def __init__(
        self, plugin: str, config: Mapping[str, Any], *, load_timeout_s: float = LOAD_TIMEOUT_S
    ) -> None:
        self.plugin = plugin
        self.config = dict(config)
        self.load_timeout_s = load_timeout_s
        self.version = ""
        self.in_order = False
        self.has_contains = False
        self.called = False
        self._process: HostProcess | None = None

    @property
    def alive(self) -> bool:
        """Whether the plugin is loaded and its process lives."""
        return self._process is not None and not self._process.exited()

    @property
    def pid(self) -> int | None:
        """Process id of the child, None without one."""
        return self._process.pid if self._process is not None else None

    def start(self, tick: Tick | None = None) -> None:
        """Start the child and load the plugin, unless it is loaded already.

        Parameters
        ----------
        tick : Callable or None
            Called at least every 0.25 s while waiting; may raise to give up.

        Raises
        ------
        PluginConfigError
            If the plugin cannot be imported or refuses its configuration.
        PluginUnavailable
            If it cannot be loaded for any other cause.
        """
        if self.alive:
            return
        self._end(None)
        try:
            process = self._process = HostProcess()
        except OSError as error:
            raise PluginUnavailable(
                f"no process for the plugin could be started: {error}"
            ) from error
        process.send(
            {
                "type": "load",
                "plugin": self.plugin,
                "config": self.config,
                "path": [entry or os.getcwd() for entry in sys.path],
            }
        )
        deadline = time.monotonic() + self.load_timeout_s
        try:
            message = process.receive(deadline, tick)
        except (ProcessGone, TimeoutError) as error:
            reason = f"did not load within {self.load_timeout_s:g} s"
            died = self._died(process, error, reason)
            raise PluginUnavailable(printable(f"plugin {self.plugin}: {died}")) from None
        except BaseException:
            self._end("was stopped")
            raise
        self._loaded(process, message)

    def _loaded(self, process: HostProcess, message: dict[str, Any]) -> None:
        match message:
            case {"type": "loaded", "version": str(version)}:
                self.version = printable(version)
                self.in_order = message.get("in_order") is True
                self.has_contains = message.get("contains") is True
            case {"type": "config_error", "message": str(text)}:
                self._end("refused its configuration")
                raise PluginConfigError(printable(text))
            case {"type": "unavailable", "message": str(text)}:
                self._end("could not be loaded")
                raise PluginUnavailable(printable(f"plugin {self.plugin}: {text}"))
            case _:
                died = self._died(process, ProcessGone("wrote into the pipe to its host"), "")
                raise PluginUnavailable(printable(f"plugin {self.plugin}: {died}"))

    def ingest(
        self, paths: Sequence[str], *, timeout_s: float, tick: Tick | None = None
    ) -> Generator[Outcome, None, None]:
        """Have the plugin ingest files; yield each outcome as it comes.

        Parameters
        ----------
        paths : Sequence[str]
            Absolute paths, each once.
        timeout_s : float
            Deadline per file, in seconds: the call gets as many times that as there are files;
            with a plugin that works in order, each file gets just that.
        tick : Callable or None
            Called at least every 0.25 s while waiting; if it raises, the child is killed, the
            outcomes that it had told by then are yielded, and the exception goes through.

        Yields
        ------
        Outcome
            At most one per path.  Paths without one when this ends have none.

        Raises
        ------
        HostDied
            If the child ended or had to be killed; nothing that it started is left.
        IngestRaised
            If the plugin raised an exception.
        """
        waiting = set(paths)
        budget = timeout_s if self.in_order else timeout_s * len(paths)
        late = f"gave no outcome within {budget:g} s"
        with closing(self._call("ingest", paths, budget, late, tick)) as messages:
            for message in messages:
                match message:
                    case {"type": "junk", "message": str(text)}:
                        logger.warning("plugin %s: ignored: %s", self.plugin, printable(text))
                    case {"type": "outcome", "path": str(path)} if path not in waiting:
                        logger.warning(
                            "plugin %s: ignored: outcome for %s, which was not asked for or has "
                            "an outcome already",
                            self.plugin,
                            escape(path),
                        )
                    case {"type": "outcome", "path": str(path), "ok": bool(ok)}:
                        waiting.discard(path)
                        text = printable(str(message.get("message", "")))
                        transient = not ok and message.get("transient") is True
                        yield Outcome(path, ok, text, transient)

    def contains(
        self, paths: Sequence[str], *, timeout_s: float, tick: Tick | None = None
    ) -> set[str]:
        """Return those of the paths that the plugin says are in its target.

        Parameters
        ----------
        paths : Sequence[str]
            Absolute paths.
        timeout_s : float
            Deadline of the whole call, in seconds.
        tick : Callable or None
            As for `ingest`.

        Raises
        ------
        HostDied, IngestRaised
            As for `ingest`.
        """
        found: set[str] = set()
        late = f"did not say within {timeout_s:g} s which files are in the target"
        for message in self._call("contains", paths, timeout_s, late, tick):
            match message:
                case {"type": "contained", "paths": [*there]}:
                    found.update(path for path in paths if path in there)
        return found

    def _call(
        self, kind: str, paths: Sequence[str], budget_s: float, late: str, tick: Tick | None
    ) -> Generator[dict[str, Any], None, None]:
        """Send a command and yield the messages that answer it, up to its end."""
        if not paths:
            return
        self.called = complete = False
        process = self._process
        if process is None or process.exited():
            self._end(None)
            raise HostDied("the plugin's process was not running", begun=False)
        process.forget_output()
        process.send({"type": kind, "paths": list(paths)})
        deadline = time.monotonic() + budget_s
        try:
            while True:
                message = process.receive(deadline, tick)
                match message["type"]:
                    case "begun":
                        self.called = True
                    case "outcome":
                        yield message
                        if self.in_order:
                            deadline = time.monotonic() + budget_s
                    case "done":
                        complete = True
                        return
                    case "contained":
                        complete = True
                        yield message
                        return
                    case "raised":
                        complete = True
                        raise IngestRaised(
                            printable(str(message.get("message"))), message.get("exit") is True
                        )
                    case "junk":
                        yield message
                    case _:
                        raise ProcessGone("wrote into the pipe to its host")
        except (ProcessGone, TimeoutError) as error:
            died = self._died(process, error, late)
            yield from self._unread(process)
            died.begun = self.called or kind != "ingest"
            raise died from None
        except IngestRaised:
            raise
        except Exception:
            # A tick's.
            self._end("was stopped")
            yield from self._unread(process)
            raise
        finally:
            if not complete:
                # Abandoned in the middle: a plugin that went on working would do so behind the
                # back of whoever takes the files.
                self._end("was stopped")

    def _unread(self, process: HostProcess) -> Generator[dict[str, Any], None, None]:
        """Yield the outcomes that had come when a process was ended, which tell how far it was."""
        for message in process.unread():
            self.called = self.called or message["type"] in ("begun", "outcome")
            if message["type"] == "outcome":
                yield message

    def _died(self, process: HostProcess, error: Exception, late: str) -> HostDied:
        reason = error.reason if isinstance(error, ProcessGone) else f"{late} and was killed"
        how = process.end(reason)
        self._process = None
        cause = f"the plugin's process {how}"
        logger.warning("plugin %s: %s", self.plugin, cause)
        return HostDied(cause, process.last_output())

    def _end(self, reason: str | None) -> None:
        if self._process is not None:
            self._process.end(reason)
            self._process = None

    def close(self) -> None:
        """End the child: politely first, and in any case with everything it started."""
        process, self._process = self._process, None
        if process is not None:
            process.close()
