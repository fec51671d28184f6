"""Arrivals as rsync's logs name them: files that lie in storage already.

A log is marked done only when every file that it names is accounted for: recorded, known or
refused for good. A file that is not there yet is looked for again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from buffer import rsync_logs, steps
from buffer.discovery import Arrival
from buffer.exclusion import PatternList
from buffer.finder_config import Finder as FinderSection
from buffer.models import RefusalReason
from buffer.names import escape, is_temporary
from buffer.refusals import Refusals
from buffer.refusing import Refused
from buffer.rsync_lines import BadLine, LogEntry
from buffer.rsync_logs import RsyncLog
from buffer.rsync_reader import LogPart, read_log
from buffer.search import Search
from buffer.trees import Tree

logger = logging.getLogger(__name__)

#: A log that is not listed for so long has left the window of days; seconds.
_FORGET_AFTER_S: Final = 86_400.0
#: What may fail of a log, as it is said.
_LISTING: Final = ""
_READING: Final = " cannot be read"
_MARKING: Final = (
    ": its files are recorded, but it cannot be marked done; give this user the right to write"
    " beside it"
)
#: A last line whose end has not come for so long will have none; seconds.
_CUT_AFTER_S: Final = 3600.0


@dataclass(slots=True)
class _Progress:
    """How far a log was read, and which of its files are not accounted for."""

    log: RsyncLog
    offset: int
    line: int | None = None
    #: When the log was last met; seconds of the monotonic clock.
    listed: float = 0.0
    pending: dict[str, LogEntry] = field(default_factory=dict)


class LogSearch(Search):
    """Reads the logs of one source.

    Parameters
    ----------
    config : `FinderSection`
        The ``finder`` section of the YAML file.
    refusals : `Refusals`
        Where lines and files that cannot be accepted are recorded.
    """

    of_buffer = False

    def __init__(self, config: FinderSection, refusals: Refusals) -> None:
        self._config, self._refusals = config, refusals
        #: Paths of pending files that rsync wrote over existing ones.
        self.updated: set[str] = set()
        self._storage: Tree | None = None
        self._excluded = PatternList(config.search.exclude_list)
        self._progress: dict[str, _Progress] = {}
        #: What was said, by name and by what failed.
        self._told: dict[tuple[str, str], int | None] = {}
        self._listed_badly: set[str] = set()

    def begin(self, source: Tree, storage: Tree) -> None:
        self._storage = storage

    def arrivals(self) -> Iterator[Arrival]:
        """Name the files of all logs in the window that are not accounted for yet."""
        search = self._config.search
        logs = rsync_logs.find_logs(
            self._config.source,
            date=search.date,
            past_days=search.past_days,
            future_days=search.future_days,
            delay=search.delay_s,
            onerror=self._tell_of_listing,
        )
        self._forget_what_is_well()
        for log in logs:
            try:
                yield from self._of_log(log)
                self._told.pop((log.name, _READING), None)
            except OSError as error:
                self._tell(log.name, error, _READING)

    def accounted(self, arrivals: Iterable[Arrival]) -> None:
        """Strike out those files of a batch that are recorded, or refused for good."""
        for arrival in arrivals:
            if not self._refusals.is_transient(arrival.path):
                self._strike(arrival.path)
        steps.reached("batch accounted for")

    def _strike(self, path: str) -> None:
        self.updated.discard(path)
        self._refusals.resolve_missing(path)
        for progress in self._progress.values():
            progress.pending.pop(path, None)

    def finish(self, waiting: int) -> int:
        """Mark the logs that are done; what they name and nobody has found or refused waits."""
        forget_before = time.monotonic() - _FORGET_AFTER_S
        for name, progress in list(self._progress.items()):
            done = False
            if progress.pending:
                waiting += sum(not self._refusals.reason(path) for path in progress.pending)
            else:
                done = self._mark(progress) and progress.offset == progress.log.size
            # Deleted, or out of the window of days: nobody looks at it any more.
            if done or progress.listed < forget_before:
                del self._progress[name]
        return waiting

    def _mark(self, progress: _Progress) -> bool:
        """Mark how far a log is done; tell whether that could be done."""
        log = progress.log
        try:
            if rsync_logs.done_offset(log) < progress.offset:
                rsync_logs.mark_done(log, progress.offset)
                logger.info("rsync log %s is done", escape(log.name))
        except OSError as error:
            self._tell(log.name, error, _MARKING)
            return False
        self._told.pop((log.name, _MARKING), None)
        steps.reached("log finished")
        return True

    def _tell_of_listing(self, name: str, error: OSError) -> None:
        if not name:
            raise error
        self._listed_badly.add(name)
        self._tell(name, error, _LISTING)

    def _tell(self, name: str, error: OSError, text: str) -> None:
        """Log what is wrong with a log or a directory of logs, once until it is well again."""
        if self._told.get((name, text)) != error.errno:
            self._told[name, text] = error.errno
            logger.warning("rsync log %s%s: %s", escape(name), text, error.strerror)

    def _forget_what_is_well(self) -> None:
        """Forget what was said of names that this listing had no trouble with."""
        for name, text in list(self._told):
            if text == _LISTING and name not in self._listed_badly:
                del self._told[name, text]
        self._listed_badly.clear()

    def _of_log(self, log: RsyncLog) -> Iterator[Arrival]:
        progress = self._progress.get(log.name)
        if progress is None or progress.log.inode != log.inode:
            if rsync_logs.is_done(log):
                return
            progress = _Progress(log, rsync_logs.done_offset(log))
            self._progress[log.name] = progress
        progress.log, progress.listed = log, time.monotonic()
        # Files that were not there the last time come first: they have waited longest.
        yield from self._look(list(progress.pending), progress)
        more = progress.offset < log.size
        while more:
            part = read_log(log, progress.offset, line=progress.line)
            more = part.more
            self._resolve_cut_line(log, part)
            for bad in part.bad_lines:
                self._refuse_line(log, bad)
            entries = [entry for entry in part.entries if self._is_wanted(entry)]
            progress.pending.update((entry.path, entry) for entry in entries)
            self.updated.update(entry.path for entry in entries if entry.updated)
            progress.offset, progress.line = part.end_offset, part.end_line
            self._look_at_end(log, part)
            steps.reached("lines read")
            yield from self._look([entry.path for entry in entries], progress)

    def _resolve_cut_line(self, log: RsyncLog, part: LogPart) -> None:
        """Close the refusal of a line that had no end, if it has one now and names a file.

        What was written on after the cut may make a line of it that says nothing.
        """
        line = part.start_line + 1
        lines = [entry.line for entry in part.entries[:1]] + [
            bad.line for bad in part.bad_lines[:1]
        ]
        if line in lines:
            self._refusals.resolve_missing(f"{log.name}:{line}")

    def _look_at_end(self, log: RsyncLog, part: LogPart) -> None:
        """Refuse a last line whose end never came: its file is recorded by nobody."""
        if part.unfinished and time.time() - log.mtime_ns / 1e9 > _CUT_AFTER_S:
            text = (
                "the last line of this log has no end, so rsync was stopped while it wrote it; the"
                " file that it names is not recorded: have it sent again, or backfill it"
            )
            path = f"{log.name}:{part.end_line + 1}"
            self._refusals.missing(path, Refused(RefusalReason.BAD_NAME, text))

    def _look(self, paths: Sequence[str], progress: _Progress) -> Iterator[Arrival]:
        for path in dict.fromkeys(paths):
            entry = progress.pending.get(path)
            arrival = None if entry is None else self._find(path, entry)
            if entry is None or arrival is None:
                continue
            if arrival.path != path:
                # The line may be read in two ways, and this is the one that is there.
                progress.pending[arrival.path] = progress.pending.pop(path)
                self._refusals.resolve_missing(path)
                if entry.updated:
                    self.updated.add(arrival.path)
            if self._refusals.stands_for_good(arrival.path, arrival.stat):
                self._strike(arrival.path)
            elif not self._refusals.stands(arrival.path, arrival.stat):
                yield arrival

    def _find(self, wanted: str, entry: LogEntry) -> Arrival | None:
        """Look for a logged file in storage; None, and a refusal, while it is not there."""
        assert self._storage is not None, "the storage area is opened before the logs are read"
        refused = Refused(
            RefusalReason.VANISHED,
            "an rsync log names it, but it is not in storage (any more); it is looked for again",
        )
        for path in (entry.path, *entry.other_paths):
            relpath, _, filename = path.rpartition("/")
            try:
                return Arrival(relpath, filename, self._storage.stat(relpath, filename))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                text = f"an rsync log names it, but it cannot be looked at: {error.strerror}"
                refused = Refused(RefusalReason.UNREADABLE, text)
        self._refusals.missing(wanted, refused)
        return None

    def _is_wanted(self, entry: LogEntry) -> bool:
        return not is_temporary(entry.relpath, entry.filename) and not self._excluded.matches(
            entry.path
        )

    def _refuse_line(self, log: RsyncLog, bad: BadLine) -> None:
        self._refusals.missing(
            f"{log.name}:{bad.line}",
            Refused(RefusalReason.BAD_NAME, f"{bad.reason}: {bad.text_escaped}"),
        )
