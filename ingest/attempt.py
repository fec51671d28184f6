"""One attempt: give files to a plugin host and say of each what became of it.

Whatever the plugin does, every file gets exactly one verdict, and the files that did nothing
wrong do not pay for the one that did.
"""

from __future__ import annotations

import enum
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from ingest.asking import ask
from ingest.host_errors import HostDied, IngestRaised, PluginUnavailable
from ingest.plugin_host import PluginHost
from ingest.plugins.base import PluginConfigError
from ingest.verdicts import StopRequested, Verdict, VerdictKind

logger = logging.getLogger(__name__)

#: After so many failed questions in one attempt, ``contains`` is not asked any more.
MAX_FAILED_QUESTIONS = 3

#: A host that dies so often before it calls the plugin is taken as not available.
MAX_FALSE_STARTS = 3


Tick = Callable[[], None]


def attempt(
    host: PluginHost, paths: Sequence[str], *, timeout_s: float, tick: Tick | None = None
) -> Iterator[Verdict]:
    """Ingest files and yield one verdict for each, as soon as it is known.

    Parameters
    ----------
    host : PluginHost
        Started as needed, and again after it died.
    paths : Sequence[str]
        Absolute paths.
    timeout_s : float
        Deadline per file, in seconds.
    tick : Callable or None
        Called at least every 0.25 s while the plugin works.  `StopRequested` raised by it ends
        the attempt with a verdict for every file; any other exception ends it with verdicts for
        those whose outcome the plugin had told.  The child is killed.

    Yields
    ------
    Verdict
        Exactly one per distinct path.

    Raises
    ------
    PluginConfigError, PluginUnavailable
        After the last verdict, if the plugin could not be loaded: files that had no verdict by
        then were given back.
    """
    return _Attempt(host, timeout_s, tick).run(list(dict.fromkeys(paths)))


class _End(enum.Enum):
    """How a call ended before every file had an outcome."""

    DIED = enum.auto()
    RAISED = enum.auto()
    SILENT = enum.auto()


class _Attempt:
    def __init__(self, host: PluginHost, timeout_s: float, tick: Tick | None) -> None:
        self.host = host
        self.timeout_s = timeout_s
        self.tick = tick
        self._left: dict[str, None] = {}  # no verdict yet, in order
        self._doubt: set[str] = set()  # of these: the plugin may have begun them
        self._groups: deque[list[str]] = deque()  # calls that are due
        self._failed_questions = 0
        self._false_starts = 0
        self._last = time.monotonic()

    def run(self, paths: list[str]) -> Iterator[Verdict]:
        self._left = dict.fromkeys(paths)
        self._groups.append(paths)
        try:
            while self._groups:
                yield from self._work_on(self._groups.popleft())
        except StopRequested as stop:
            yield from self._stopped(stop)
        except (PluginConfigError, PluginUnavailable) as error:
            for path in list(self._left):
                yield self._verdict(path, VerdictKind.GIVE_BACK, str(error))
            raise

    def _work_on(self, group: list[str]) -> Iterator[Verdict]:
        """Call the plugin once and settle what it left open."""
        if not group:
            return
        self.host.start(self.tick)
        end, cause, output = _End.SILENT, "the plugin returned without an outcome for it", ""
        try:
            yield from self._call(group)
        except HostDied as died:
            if not died.begun:
                self._start_over(group, died)
                return
            end, cause, output = _End.DIED, died.cause, died.output
        except IngestRaised as raised:
            end, cause = _End.RAISED, raised.cause
        self._false_starts = 0
        rest = [path for path in group if path in self._left]
        if not rest:
            if end is not _End.SILENT:
                logger.warning("after the last outcome of a call: %s", cause)
            return
        if len(group) == 1:
            yield from self._settle_one(rest[0], end, cause, output)
        else:
            yield from self._settle_many(rest, end, cause, output)

    def _call(self, group: list[str]) -> Iterator[Verdict]:
        self._last = time.monotonic()
        ahead = deque(group)
        outcomes = self.host.ingest(group, timeout_s=self.timeout_s, tick=self.tick)
        with closing(outcomes), self._doubting(group):
            for outcome in outcomes:
                kind = VerdictKind.SUCCESS if outcome.ok else VerdictKind.FAILURE
                verdict = self._verdict(outcome.path, kind, outcome.message, outcome.transient)
                # Before the verdict goes out: whoever takes it may stop here.
                if self.host.in_order and verdict.path in ahead:
                    while (skipped := ahead.popleft()) != verdict.path:
                        self._doubt.add(skipped)
                    self._doubt.update(itertools.islice(ahead, 1))
                yield verdict

    @contextmanager
    def _doubting(self, group: list[str]) -> Iterator[None]:
        """Doubt what the plugin may have begun of a call; nothing, if it was not called."""
        self._doubt.update(group[:1] if self.host.in_order else group)
        try:
            yield
        finally:
            if not self.host.called:
                self._doubt.difference_update(group)

    def _start_over(self, group: list[str], died: HostDied) -> None:
        """The child died before the plugin was called: no file is to blame, so try again."""
        self._false_starts += 1
        if self._false_starts >= MAX_FALSE_STARTS:
            raise PluginUnavailable(f"plugin {self.host.plugin}: {died}") from died
        self._groups.appendleft(group)

    def _settle_one(self, path: str, end: _End, cause: str, output: str) -> Iterator[Verdict]:
        """Settle a file that was alone in its call, so that the end is its own doing."""
        message = _with_output(cause, output)
        if end is _End.RAISED:
            yield self._verdict(path, VerdictKind.FAILURE, message)
            return
        try:
            there = self._ask([path]).get(path)
        except (PluginConfigError, PluginUnavailable):
            yield self._verdict(path, VerdictKind.UNKNOWN, message)
            raise
        if there:
            yield self._verdict(path, VerdictKind.SUCCESS, _in_target(cause))
        else:
            yield self._verdict(path, VerdictKind.UNKNOWN, message)

    def _settle_many(
        self, rest: list[str], end: _End, cause: str, output: str
    ) -> Iterator[Verdict]:
        """Settle the files of a batch that have no outcome."""
        in_order = self.host.in_order
        # A plugin that works in order has begun one more than those it told of, and those it
        # skipped, unless it said that it was through with all.
        begun = self._left if end is _End.SILENT else self._doubt
        in_doubt = [path for path in rest if path in begun]
        untouched = [path for path in rest if path not in begun]
        message = _with_output(cause, output)
        if self.host.has_contains:
            answers = self._ask(in_doubt)
            for path in in_doubt:
                there = answers.get(path)
                if there:
                    yield self._verdict(path, VerdictKind.SUCCESS, _in_target(cause))
                elif there is None:
                    yield self._verdict(path, VerdictKind.UNKNOWN, message)
                else:
                    self._doubt.discard(path)
                    self._groups.append([path])
            self._groups.append(untouched)
        elif in_order and end is _End.DIED:
            for path in in_doubt:
                yield self._verdict(path, VerdictKind.UNKNOWN, message)
            for path in untouched:
                reason = f"not begun: {cause}, while another file of the batch was ingested"
                yield self._verdict(path, VerdictKind.GIVE_BACK, reason)
        elif in_order and end is _End.RAISED:
            *skipped, raiser = in_doubt
            yield self._verdict(raiser, VerdictKind.FAILURE, message)
            self._groups.extend([path] for path in skipped)
            self._groups.append(untouched)
        elif in_order:
            self._groups.extend([path] for path in rest)
        else:
            reason = _with_output(_cannot_tell(cause, len(rest)), output)
            for path in rest:
                yield self._verdict(path, VerdictKind.UNKNOWN, reason)

    def _ask(self, paths: list[str], tick: Tick | None = None) -> dict[str, bool | None]:
        """Ask which files are in the target; None for those where the question failed."""
        if not self.host.has_contains:
            return dict.fromkeys(paths)
        answers = ask(
            self.host,
            paths,
            timeout_s=self.timeout_s,
            tick=tick or self.tick,
            most_failures=MAX_FAILED_QUESTIONS - self._failed_questions,
        )
        self._failed_questions += len(answers.failures)
        return answers.there

    def _stopped(self, stop: StopRequested) -> Iterator[Verdict]:
        """Give every file its verdict after the operator's stop killed the host."""
        cause = "the operator's stop interrupted the attempt"
        in_doubt = [path for path in self._left if path in self._doubt]
        answers: dict[str, bool | None] = {}
        if in_doubt and stop.time_left_s > 0:
            until = time.monotonic() + stop.time_left_s

            def time_is_up() -> None:
                if time.monotonic() >= until:
                    raise StopRequested

            try:
                answers = self._ask(in_doubt, time_is_up)
            except (StopRequested, PluginConfigError, PluginUnavailable) as error:
                logger.warning("files of an interrupted attempt stay unknown: %s", error)
        for path in list(self._left):
            there = answers.get(path)
            if path not in in_doubt:
                yield self._verdict(path, VerdictKind.GIVE_BACK, f"not begun: {cause}")
            elif there:
                yield self._verdict(path, VerdictKind.SUCCESS, _in_target(cause))
            elif there is None:
                yield self._verdict(path, VerdictKind.UNKNOWN, cause)
            else:
                reason = f"{cause}; the plugin says that the target does not have it"
                yield self._verdict(path, VerdictKind.GIVE_BACK, reason)

    def _verdict(
        self, path: str, kind: VerdictKind, message: str = "", transient: bool = False
    ) -> Verdict:
        del self._left[path]
        self._doubt.discard(path)
        now = time.monotonic()
        duration, self._last = now - self._last, now
        return Verdict(path, kind, message, transient, duration, self.host.version)


def _with_output(cause: str, output: str) -> str:
    return f"{cause}\nlast output:\n{output}" if output else cause


def _in_target(cause: str) -> str:
    return f"in the target, says the plugin, although {cause}"


def _cannot_tell(cause: str, count: int) -> str:
    if count == 1:
        return cause
    return (
        f"{cause}; {count} files of the call had no outcome, and the plugin has neither "
        f"contains nor in_order to tell which of them it had begun"
    )
