"""Recording files that were in storage before this system: rows with the status BACKFILL.

A file's row and its status appear in one transaction. In between, an ingester at work on the same
storage would take it for a new file and try to ingest it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from django.db import transaction
from django.utils import timezone

from buffer import dialect
from buffer import steps as protocol
from buffer.components import worker_name
from buffer.durability import Pending
from buffer.finder_config import Checksum
from buffer.models import Component, File, Storage
from buffer.names import why_bad
from buffer.recording import InPlace, insert_in_place
from buffer.refusals import Refusals
from buffer.storages import open_tree
from buffer.trees import Tree
from ingest import transitions
from ingest.backfill_files import Failed, check_tracked, hash_file, look_at
from ingest.statuses import Status

#: Somebody else records the same files: so often a chunk is looked up again.
_RACES: Final = 10
_ALGORITHM: Final = str(Checksum.BLAKE3)


class Overtaken(Exception):
    """Somebody else recorded some of these files just now; nothing was written."""


@dataclass(frozen=True, slots=True)
class BackfillRun:
    """One run of backfill, as its workers know it.

    Parameters
    ----------
    storage_id, ingester_id : `int`
        Where the files are, and whose history is filled in.
    root : `str`
        The storage area as it is mounted here.
    fresh_target : `bool`
        The ingester was never started: whatever is tracked and unknown to it came before it.
    began_on : `~datetime.datetime`
        When the run began.
    """

    storage_id: int
    ingester_id: int
    root: str
    fresh_target: bool
    began_on: datetime

    def settings(self) -> dict[str, Any]:
        """Write it down for the workers."""
        return {
            "storage": self.storage_id,
            "ingester": self.ingester_id,
            "root": self.root,
            "fresh_target": self.fresh_target,
            "began_on": self.began_on.isoformat(),
        }

    @classmethod
    def load(cls, run_id: int) -> BackfillRun:
        """Read what the command wrote down under its component's id."""
        settings = Component.objects.get(pk=run_id).settings
        return cls(
            storage_id=settings["storage"],
            ingester_id=settings["ingester"],
            root=settings["root"],
            fresh_target=settings["fresh_target"],
            began_on=datetime.fromisoformat(settings["began_on"]),
        )

    def takes_over(self, file: File) -> bool:
        """Tell whether a file that is tracked, but unknown to the ingester, gets BACKFILL too.

        Not if a finder took it in for this ingester, or does so while we run: the ingester will
        open it as a new one.
        """
        if file.stored_on is None:
            return False
        was_recorded_in_place = file.seen_on is None
        return was_recorded_in_place or (self.fresh_target and file.stored_on < self.began_on)


class Recorder:
    """Looks at files in storage and records them.

    Parameters
    ----------
    run : `BackfillRun`
        For whom.
    """

    def __init__(self, run: BackfillRun) -> None:
        self.run = run
        self._storage = Storage.objects.get(pk=run.storage_id)
        self._refusals = Refusals(self._storage, run.root)
        self._worker = worker_name()

    def record(self, paths: Sequence[str], receipt: Callable[[Counter[str]], None]) -> Counter[str]:
        """Record those files that are not tracked yet.

        Parameters
        ----------
        paths : `~collections.abc.Sequence` [`str`]
            Below the storage root.
        receipt : callable
            Called with the counters within the transaction that makes them true.

        Returns
        -------
        counters : `~collections.Counter` [`str`]
            added, tracked, failed: together, as many as there are paths. taken_over: those of the
            tracked that were unknown to this ingester.

        Raises
        ------
        NotMounted
            The storage area is not there.
        Stopped
            The workers are to stop.
        """
        with open_tree(self._storage, Path(self.run.root)) as tree:
            for _ in range(_RACES):
                try:
                    return self._record(tree, paths, receipt)
                except Overtaken as error:
                    # A finder, or another backfill, recorded some of them just now.
                    race = error
        raise race

    def _record(
        self, tree: Tree, paths: Sequence[str], receipt: Callable[[Counter[str]], None]
    ) -> Counter[str]:
        counters = Counter(added=0, tracked=0, taken_over=0, failed=0)
        known = look_up(self.run.storage_id, self.run.ingester_id, paths)
        fresh: list[InPlace] = []
        unknown_here: list[int] = []
        pending = Pending()
        # Before anything is read: what changes later than this is read again by the next run.
        now = timezone.now()
        try:
            for path in paths:
                try:
                    tracked = known.get(path)
                    if tracked is None:
                        fresh.append(_read(tree, path, pending))
                    else:
                        check_tracked(tree, tracked.file)
                        counters["tracked"] += 1
                        if tracked.ingestion is None and self.run.takes_over(tracked.file):
                            unknown_here.append(tracked.file.pk)
                except Failed as failed:
                    self._refusals.add(path, failed.state, failed.refused)
                    counters["failed"] += 1
                else:
                    self._refusals.resolve(path, "recorded by backfill")
            pending.sync()
        finally:
            pending.clear()
        counters["added"] = len(fresh)
        with transaction.atomic():
            ids = insert_in_place(self.run.storage_id, fresh, _ALGORITHM, now) if fresh else []
            if len(ids) < len(fresh):
                raise Overtaken
            protocol.reached("files inserted")
            created = transitions.create(
                self.run.ingester_id,
                [*ids, *sorted(unknown_here)],
                Status.BACKFILL,
                worker=self._worker,
            )
            counters["taken_over"] = len(created) - len(ids)
            receipt(counters)
            protocol.reached("receipt of files written")
        protocol.reached("chunk recorded")
        return counters


def _read(tree: Tree, path: str, pending: Pending) -> InPlace:
    relpath, _, filename = path.rpartition("/")
    look_at(tree, path)
    checksum, state = hash_file(tree, path, _ALGORITHM, pending)
    return InPlace(relpath, filename, checksum, state.st_size)


class Tracked(NamedTuple):
    """A file that is tracked already."""

    file: File
    ingestion: int | None
    """Id of its ingestion at the ingester in question; None if that does not know it."""


def look_up(storage_id: int, ingester_id: int, paths: Iterable[str]) -> dict[str, Tracked]:
    """Find those files that are tracked, by their path.

    Parameters
    ----------
    storage_id, ingester_id : `int`
        Where they are, and whose ingestions are wanted.
    paths : `~collections.abc.Iterable` [`str`]
        Below the storage root.
    """
    places = []
    for path in paths:
        relpath, _, filename = path.rpartition("/")
        if why_bad(relpath, filename) is None:
            places.append({"relpath": relpath, "filename": filename})
    # CROSS keeps SQLite from going through all files of the storage for each chunk.
    sql = f"""
        SELECT f.*, i.id AS known_as
        FROM {dialect.rows_from_json({"relpath": "text", "filename": "text"})}
        CROSS JOIN buffer_file f
        LEFT JOIN ingest_ingestion i ON i.file_id = f.id AND i.ingester_id = %s
        WHERE f.storage_id = %s AND f.relpath = v.relpath AND f.filename = v.filename"""
    rows = File.objects.raw(sql, [json.dumps(places), ingester_id, storage_id])
    # Columns beyond the model's become attributes.
    return {file.path: Tracked(file, vars(file)["known_as"]) for file in rows}
