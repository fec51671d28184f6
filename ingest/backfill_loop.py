"""The loop of `manage.py backfill`: walks the sources and keeps the workers busy."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from buffer import outages, storages
from buffer import sqlviews as storage_views
from buffer import steps as protocol
from buffer.components import Heartbeat
from buffer.exclusion import PatternList
from buffer.models import ComponentKind, Storage
from buffer.names import escape
from buffer.problems import ConfigError
from buffer.progress import Amount, Progress
from buffer.signals import StopSignals
from buffer.wakeups import QueueUnavailable
from buffer.workers import Workers
from ingest import sqlviews
from ingest.backfill import BackfillRun
from ingest.backfill_config import BackfillFile
from ingest.backfill_crew import Crew, Receipt
from ingest.backfill_sessions import record_session, verify_session
from ingest.backfill_sources import Candidate, Source, Walk, chunks
from ingest.backfill_verify import check_plugin
from ingest.models import Ingester

logger = logging.getLogger(__name__)

#: One file may be large and its medium slow; seconds.
LONGEST_SESSION_S: Final = 24 * 3600.0
#: While all is with the workers, receipts are looked for after growing pauses; seconds.
_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.2
#: While the workers are busy, the files ahead are counted for so long; seconds.
_COUNT_S: Final = 0.02
_DATABASE_PAUSE_S: Final = 1.0
_RECORD: Final = f"{record_session.__module__}.{record_session.__qualname__}"
_VERIFY: Final = f"{verify_session.__module__}.{verify_session.__qualname__}"


class Blocked(Exception):
    """Backfill cannot go on; what it did stays, and it can be run again."""


@dataclass(slots=True)
class Summary:
    """What a run came to.

    Parameters
    ----------
    counters : `~collections.Counter` [`str`]
        Numbers of files. found: added + tracked + failed, once all is done. taken_over: those of
        the tracked that the ingester did not know. excluded: not among those found. With --verify
        also verified, absent and unanswered.
    unmatched : `dict` [`str`, `str`]
        Sources that matched nothing, and why, if there is more to say.
    complete : `bool`
        False when it was stopped before the end.
    """

    counters: Counter[str] = field(
        default_factory=lambda: Counter(found=0, added=0, tracked=0, failed=0)
    )
    unmatched: dict[str, str] = field(default_factory=dict)
    complete: bool = False


def run_backfill(config: BackfillFile, *, workers: int, verify: bool) -> Summary:
    """Record what the sources name, until all is done or a signal says stop.

    Parameters
    ----------
    config : `BackfillFile`
        The YAML file.
    workers : `int`
        How many files are read at a time.
    verify : `bool`
        Ask the plugin's ``contains`` about each file.

    Raises
    ------
    ConfigError
        The file contradicts what is known.
    Blocked, NotMounted, CannotVerify
        It cannot be done now.
    """
    if verify:
        # Before anything is touched; imports the plugin in a process of its own.
        check_plugin(_known_ingester(config))
    storage, ingester = _register(config)
    # Sources would match nothing below an empty mount point.
    storages.open_tree(storage, config.backfill.storage).close()
    run = BackfillRun(
        storage_id=storage.pk,
        ingester_id=ingester.pk,
        root=str(config.backfill.storage),
        fresh_target=ingester.started_on is None,
        began_on=timezone.now(),
    )
    with Heartbeat.begin(
        ComponentKind.BACKFILL, ingester.name, settings=run.settings(), workers=workers
    ) as heartbeat:
        logger.info(
            "backfill %d: %s for %s", heartbeat.id, escape(config.backfill.storage), ingester.name
        )
        return _Loop(config, storage, heartbeat, workers, verify=verify).run()


class _Loop:
    def __init__(
        self,
        config: BackfillFile,
        storage: Storage,
        heartbeat: Heartbeat,
        workers: int,
        *,
        verify: bool,
    ) -> None:
        self._heartbeat, self._verify = heartbeat, verify
        self._storage, self._root = storage, config.backfill.storage
        self._queue, self._count = _queue(config), workers
        self._summary = Summary()
        self._done = Amount()
        self._walk, self._ahead = walk(config), walk(config)
        self._chunks = chunks(self._walk.candidates())
        self._walked = self._found = Amount()
        self._is_walked = False
        self._counting: Iterator[Candidate | None] | None = self._ahead.candidates()
        self._counted = Amount()

    def run(self) -> Summary:
        workers = Workers(self._queue, self._count, session_timeout_s=LONGEST_SESSION_S)
        try:
            # What a run left that was stopped or killed would otherwise be done in its name.
            workers.wakeups.purge()
        except QueueUnavailable as error:
            raise Blocked(str(error)) from error
        with StopSignals() as stop, workers, Progress() as progress:
            crew = Crew(self._heartbeat.id, workers)
            pause = _FIRST_PAUSE_S
            while not stop.requested:
                workers.check()
                self._heartbeat.beat(counters=dict(self._summary.counters))
                try:
                    busy = self._turn(crew)
                except (DatabaseError, InterfaceError) as error:
                    outages.away(error)
                    stop.wait(_DATABASE_PAUSE_S)
                    continue
                except OSError as error:
                    raise Blocked(f"the storage area cannot be read: {error.strerror}") from error
                progress.show(self._done, self._total())
                if self._is_walked and crew.is_done:
                    self._summary.complete = True
                    break
                if busy:
                    pause = _FIRST_PAUSE_S
                elif not self._count_ahead():
                    stop.wait(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
            progress.show(self._done, self._total(), last=True)
        self._heartbeat.beat(counters=dict(self._summary.counters), now=True)
        return self._summary

    def _turn(self, crew: Crew) -> bool:
        """Take back what is done and hand out the next; tell whether there was anything to do."""
        receipts = crew.collect()
        for receipt in receipts:
            self._note(crew, receipt)
        for chunk in crew.send_lost():
            self._summary.counters["failed"] += len(chunk)
        if self._is_walked or not crew.wants_more:
            return bool(receipts)
        try:
            chunk_of_files = next(self._chunks)
        except StopIteration:
            self._end_of_walk()
            return True
        if chunk_of_files is not None:
            size_bytes = sum(candidate.size_bytes for candidate in chunk_of_files)
            self._found = self._found.plus(len(chunk_of_files), size_bytes)
            self._summary.counters["found"] += len(chunk_of_files)
            crew.hand_out(_RECORD, chunk_of_files)
        return True

    def _note(self, crew: Crew, receipt: Receipt) -> None:
        if receipt.blocked:
            raise Blocked(receipt.blocked)
        self._summary.counters.update(receipt.counters)
        if self._verify and receipt.chunk.session == _RECORD:
            crew.hand_out(_VERIFY, receipt.chunk.candidates)
        else:
            self._done = self._done.plus(len(receipt.chunk), receipt.chunk.size_bytes)

    def _end_of_walk(self) -> None:
        # What was unmounted meanwhile was not walked to its end.
        storages.open_tree(self._storage, self._root).close()
        self._is_walked, self._counting = True, None
        self._summary.unmatched = self._walk.unmatched
        if self._walk.excluded:
            self._summary.counters["excluded"] = self._walk.excluded

    def _count_ahead(self) -> bool:
        """Count files for a moment while the workers are busy; tell whether there is more to."""
        until = time.monotonic() + _COUNT_S
        while self._counting is not None and time.monotonic() < until:
            candidate = next(self._counting, _END)
            if candidate is _END:
                self._counting = None
            elif candidate is not None:
                self._counted = self._counted.plus(1, candidate.size_bytes)
        return self._counting is not None

    def _total(self) -> Amount | None:
        if self._is_walked:
            return self._found
        return self._counted if self._counting is None else None


_END: Final = Candidate("", 0)


def walk(config: BackfillFile) -> Walk:
    """Make the walk over what the sources name."""
    section = config.backfill
    sources = [Source(text) for text in section.sources]
    return Walk(section.storage, sources, PatternList(section.search.exclude_list))


def _known_ingester(config: BackfillFile) -> Ingester:
    ingester = Ingester.objects.filter(name=config.name).first()
    if ingester is None:
        raise ConfigError(
            f"--verify: there is no ingester '{config.name}' (database.tablenames.event.table), so"
            " there is no plugin to ask: start it once (`manage.py runingester CONFIG --once`), or"
            " leave --verify out"
        )
    return ingester


def _register(config: BackfillFile) -> tuple[Storage, Ingester]:
    """Find or begin the storage area and the ingester; the first runingester fills the rest in."""
    known = Ingester.objects.filter(name=config.name).select_related("storage").first()
    if known is not None and known.storage.name != config.database.file_table:
        raise ConfigError(
            f"database.tablenames.event.table: the ingester '{config.name}' reads the storage"
            f" '{known.storage}', and this file says '{config.database.file_table}' in"
            " database.tablenames.file.table: correct one of them"
        )
    root = config.backfill.storage
    try:
        storage = storages.register(config.database.file_table, root)
    except OSError as error:
        raise ConfigError(
            f"backfill.storage: the storage area {escape(root)} is new here and cannot be marked"
            f" as ours ({error.strerror}): let this user write to it, once"
        ) from None
    ingester, _ = Ingester.objects.get_or_create(name=config.name, defaults={"storage": storage})
    protocol.reached("ingester known")
    storage_views.ensure(storage_views.storage_view(storage))
    sqlviews.ensure(ingester)
    return storage, ingester


def _queue(config: BackfillFile) -> str:
    """Name the queue, which only our own workers are to read; a run finds what another left."""
    key = f"{os.uname().nodename}\0{config.backfill.storage}\0{config.name}"
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=6)
    return f"backfill-{digest.hexdigest()}"
