"""The finder: cycles of looking for arrivals and taking them in.

A cycle is bounded in time and can be continued: a walk over a directory with a million files goes
on where the last cycle left it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from django.db import DatabaseError, InterfaceError

from buffer import outages, storages
from buffer.batches import batches
from buffer.collisions import Collisions
from buffer.copies import kept_copies
from buffer.cycle import Cycle
from buffer.discovery import Arrival
from buffer.duplicates import Duplicates
from buffer.exclusion import PatternList
from buffer.finder_config import Finder as FinderSection
from buffer.finder_config import SearchMethod, StandardAction
from buffer.histograms import TAKE_IN_S, Histogram
from buffer.inotify import Notices
from buffer.io_errors import CannotStore
from buffer.ledger import Ledger
from buffer.log_search import LogSearch
from buffer.models import RefusalReason, Storage
from buffer.names import escape
from buffer.passage import Passage
from buffer.problems import ConfigError
from buffer.recovery import Recovery
from buffer.refusals import Refusals
from buffer.refusing import Refused
from buffer.search import Search, Walk
from buffer.settling import Settling, state_of
from buffer.storages import NotMounted, open_tree
from buffer.takein import TakeIn
from buffer.tracked import Tracked
from buffer.trees import Tree
from buffer.watch_search import WatchSearch

logger = logging.getLogger(__name__)


class Finder:
    """Takes files from one source into one storage area.

    Keeps in memory what it has seen, so all cycles of a source belong in one process.

    Parameters
    ----------
    config : `FinderSection`
        The ``finder`` section of the YAML file.
    storage : `Storage`
        The storage area's row.
    once : `bool`, optional
        It is to be run until a full scan finds nothing, so each cycle is one.
    """

    def __init__(self, config: FinderSection, storage: Storage, *, once: bool = False) -> None:
        # A lease that is broken by a writer is told by SIGIO, whose default is to kill.
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        self._config, self._storage = config, storage
        self._move = config.actions.standard is StandardAction.MOVE
        self._excluded = PatternList(config.search.exclude_list)
        self._skip = self._is_excluded if len(self._excluded) else None
        self._settling = Settling(config.search.delay_s)
        self._refusals = Refusals(storage, str(config.source))
        self._tracked = None if self._move else Tracked(storage)
        self._search = self._choose_search(once)
        key = f"{socket.gethostname()}\0{config.source}".encode("utf-8", "surrogateescape")
        self._staging = f"{hashlib.blake2b(key, digest_size=6).hexdigest()}-"
        self._recovered = False
        self._kept: list[str] = []
        self._walk: Iterator[list[Arrival]] | None = None
        self._waiting = self._done = 0
        #: What was done since the start, by kind.
        self.counters: Counter[str] = Counter()
        self._take_ins = Histogram(TAKE_IN_S)
        self._stored_at: float | None = None

    def cycle(self, *, until: float, stop: Callable[[], bool]) -> Cycle:
        """Look through the source and take in what can be, for a bounded time.

        Parameters
        ----------
        until : `float`
            Time of the monotonic clock after which no further batch is begun.
        stop : callable
            Tells whether to end after the present batch.

        Returns
        -------
        cycle : `Cycle`
            What was done. Nothing is raised for what an operator has to mend outside.
        """
        try:
            with open_tree(self._storage, self._config.storage) as target:
                if not self._move:
                    return self._cycle(target, target, until, stop)
                with self._open_source() as source:
                    return self._cycle(source, target, until, stop)
        except CannotStore as error:
            blocked = f"the storage area {escape(self._config.storage)} takes no files: {error}"
        except (NotMounted, ConfigError) as error:
            self._recovered, blocked = False, str(error)
        except (DatabaseError, InterfaceError) as error:
            # Whatever was half done is found by the recovery when it answers again.
            self._recovered = False
            blocked = "the database does not answer"
            outages.away(error)
        except OSError as error:
            self._recovered = False
            where = f" ({escape(str(error.filename))})" if error.filename else ""
            blocked = f"the buffer or the storage fails: {error.strerror}{where}"
        except BaseException:
            self._recovered = False
            self._begin_afresh()
            raise
        self._begin_afresh()
        return Cycle(0, self._waiting, complete=False, blocked=blocked)

    def measures(self) -> dict[str, Any]:
        """Give what monitoring wants to know of this finder, as JSON's types."""
        room = {
            "buffer": storages.room(self._config.source),
            "storage": storages.room(self._config.storage),
        }
        return {
            "take_in": self._take_ins.plain(),
            "stored_at": self._stored_at,
            "free_bytes": {area: free for area, (free, _) in room.items()},
            "total_bytes": {area: whole for area, (_, whole) in room.items()},
            # Somebody takes them away, sooner or later.
            "kept": [path for path in self._kept if os.path.lexists(self._config.storage / path)],
        }

    @property
    def wakes(self) -> Notices | None:
        """What becomes readable when something arrives; None if nothing does."""
        return self._search.wakes

    def pause_s(self) -> float:
        """Give the seconds until the next cycle has something to do, if `wakes` stays quiet."""
        return self._search.pause_s(self._config.pause)

    def _choose_search(self, once: bool) -> Search:
        config, method = self._config, self._config.search.method
        if method is SearchMethod.PARSE_RSYNC_LOGS:
            return LogSearch(config, self._refusals)
        where = config.source, self._skip, self._unreadable
        if method is SearchMethod.WATCH and not once:
            return WatchSearch(*where, self._settling, known=self._is_known)
        return Walk(*where, known=self._is_known)

    def _begin_afresh(self) -> None:
        """Forget the present walk, and with it what it had not come to."""
        self._walk = None
        self._search.look_at_everything()

    def _cycle(self, source: Tree, target: Tree, until: float, stop: Callable[[], bool]) -> Cycle:
        config = self._config
        passage = Passage(
            self._storage,
            source,
            target,
            move=self._move,
            algorithm=str(config.checksum),
            fsync=config.fsync,
            staging=self._staging,
        )
        ledger = Ledger(passage, self._settling, self._refusals)
        duplicates = Duplicates(passage, config.actions.alternative, config.duplicates)
        collisions = Collisions(passage, ledger, duplicates, self._is_excluded)
        take_in = TakeIn(passage, ledger, duplicates, collisions)
        if not self._recovered:
            if self._move:
                recovered = Recovery(passage, self._refusals).run()
                self.counters.update(recovered=recovered.total())
                self._kept = kept_copies(target)
            self._recovered = True
        if self._move and self._walk is None:
            self._refusals.decisions.load()
            collisions.finish()
        self._search.begin(source, target)
        try:
            complete = self._take_in_all(take_in, until, stop)
        finally:
            self.counters.update(ledger.counters)
            self._take_ins.add(ledger.take_ins.counts, ledger.take_ins.sum_s)
            if ledger.counters["stored"]:
                self._stored_at = time.time()
            take_in.flush()
        if complete:
            self._waiting = self._search.finish(self._waiting)
        cycle = Cycle(self._done, self._waiting, complete)
        self.counters["waiting"] = cycle.waiting
        if complete and self._search.whole:
            self.counters["scans"] += 1
            self.counters["quiet_scans"] += cycle.quiet
            self._settling.end_of_scan()
            if self._search.of_buffer:
                self._refusals.end_of_scan()
        return cycle

    def _take_in_all(self, take_in: TakeIn, until: float, stop: Callable[[], bool]) -> bool:
        """Take in batch by batch; tell whether the source was looked through to its end."""
        if self._walk is None:
            if self._refusals.refresh():
                self._search.look_at_everything()
            self._walk = batches(self._arrivals())
            self._waiting = self._done = 0
        for batch in self._walk:
            fresh = batch
            if self._tracked is not None:
                fresh = self._tracked.unknown(batch, self._search.updated)
            if len(fresh) < len(batch):
                self._close_refusals(batch, fresh)
            accounted = take_in.batch(fresh) if fresh else set()
            self._done += len(accounted)
            left = {arrival.path for arrival in fresh} - accounted
            self._waiting += len(left)
            self._search.look_again(left)
            self._search.accounted(arrival for arrival in batch if arrival.path not in left)
            if stop() or time.monotonic() >= until:
                return False
        self._walk = None
        return True

    def _close_refusals(self, batch: Sequence[Arrival], fresh: Sequence[Arrival]) -> None:
        """Close what time has healed for tracked files; a crash came before it was closed."""
        looked_at = {arrival.path for arrival in fresh}
        for arrival in batch:
            if arrival.path not in looked_at and self._refusals.is_transient(arrival.path):
                self._refusals.resolve(arrival.path, "recorded before")

    def _arrivals(self) -> Iterator[Arrival]:
        """Name what is worth taking in now."""
        for arrival in self._search.arrivals():
            if not self._search.of_buffer or self._is_ready(arrival):
                yield arrival

    def _is_known(self, path: str, stat: os.stat_result) -> bool:
        """Tell whether an arrival was dealt with and has not changed."""
        if self._refusals.stands(path, stat) or (
            self._tracked is not None and self._tracked.remembers(path, stat)
        ):
            self._settling.forget(path)
            return True
        return False

    def _is_ready(self, arrival: Arrival) -> bool:
        path = arrival.path
        if not arrival.is_regular:
            return True
        if not self._settling.is_settled(path, state_of(arrival.stat)):
            self._waiting += 1
            return False
        # A sidecar is seen before the file that it describes, and must be stored before it.
        if self._settling.awaits_sidecar_of(path):
            self._waiting += 1
            self._search.look_again([path])
            return False
        return True

    def _is_excluded(self, relpath: str, filename: str) -> bool:
        return self._excluded.matches(f"{relpath}/{filename}" if relpath else filename) is not None

    def _unreadable(self, path: str, error: OSError) -> None:
        if path == "":
            raise error
        refused = Refused(
            RefusalReason.UNREADABLE, f"it cannot be looked through: {error.strerror}"
        )
        try:
            stat = (self._config.source / path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError:
            self._refusals.missing(path, refused)
            return
        if not self._refusals.stands(path, stat):
            self._refusals.add(path, stat, refused)

    def _open_source(self) -> Tree:
        return Tree(Path(self._config.source))
