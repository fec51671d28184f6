"""From the database to the storage: is every stored file there, and as it was recorded?"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from django.db import connection
from django.db.models import F

from buffer import storages
from buffer.audit_config import Area
from buffer.audit_findings import Finding, Trouble, of_row
from buffer.audit_look import look
from buffer.audit_marks import Marks
from buffer.audit_pace import Breath, Stopped, Subset
from buffer.models import File, FindingKind, Suspicion
from buffer.names import escape
from buffer.trees import Tree

#: Rows that are fetched, looked at and marked together.
SLICE: Final = 500
#: Bytes after which those that were looked at are told of, when files are read.
SLICE_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Twin:
    """An older row with a file's name and content: the file that is meant, or a copy of it."""

    id: int
    relpath: str
    filename: str


class RowsAudit:
    """Looks for the file of every stored row.

    Parameters
    ----------
    area : `Area`
        The storage area.
    subset : `Subset`
        Which rows.
    reading : `bool`
        Read every file. Those that are marked are read in any case, so that a mark is only
        cleared by a file's content.
    marks : `Marks`
        What was found before, and is to be remembered.
    breath : `Breath`
        Counts and paces.
    """

    def __init__(
        self, area: Area, subset: Subset, *, reading: bool, marks: Marks, breath: Breath
    ) -> None:
        self._area, self._subset, self._reading = area, subset, reading
        self._marks, self._breath = marks, breath
        #: Marks that were cleared, as they were found.
        self.cleared = 0
        #: The row up to which everything was looked at, and the last one there was at the start.
        self.at, self.last = 0, 0

    def findings(self) -> Iterator[Finding]:
        """Look at all rows there are now.

        Raises
        ------
        Stopped
            Somebody wants it to end; what was looked at is told.
        NotMounted, StorageFailed
            Nothing can be judged.
        """
        self.last = File.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        while rows := self._next():
            for part in _parts(rows) if self._reading else [rows]:
                yield from self._part(part)
            self.at = rows[-1].pk
        self.at = self.last

    def _next(self) -> list[File]:
        # The sum keeps both databases from looking for the storage's rows by another index than
        # that of ids, and then sorting all of them.
        subset = self._subset
        rows = (
            File.objects.stored()
            .annotate(area=F("storage_id") + 0, part=F("pk") % subset.parts)
            .filter(area=self._area.storage.pk, part=subset.part - 1)
            .filter(pk__gt=self.at, pk__lte=self.last)
        )
        return list(rows.order_by("pk")[:SLICE])

    def _part(self, rows: Sequence[File]) -> Iterator[Finding]:
        marked, twins = self._marks.standing(rows), self._twins(rows)
        seen: list[File] = []
        suspects: list[File] = []
        stopped: Stopped | None = None
        with storages.open_tree(self._area.storage, self._area.root) as tree:
            for file in rows:
                try:
                    trouble = self._judge(tree, file, marked, twins)
                    self._breath.file()
                except Stopped as stop:
                    stopped = stop
                    break
                seen.append(file)
                if trouble is not None:
                    suspects.append(file)
        bad = self._look_again(suspects, marked)
        good = [f.pk for f in seen if f.pk in marked and f.pk not in {s.pk for s in suspects}]
        self._marks.settle(marked, {file.pk: trouble for file, trouble in bad}, good)
        self.cleared += len(good)
        for file, trouble in bad:
            yield of_row(self._area, file, trouble)
        if stopped is not None:
            raise stopped

    def _look_again(
        self, suspects: Sequence[File], marked: dict[int, Suspicion]
    ) -> list[tuple[File, Trouble]]:
        """Judge suspects once more, by their rows as they are now, in directories opened afresh.

        A finder may have repaired the file, a person may have put back a directory; and if the
        storage area was unmounted just now, nothing of this is true.
        """
        if not suspects:
            return []
        rows = File.objects.stored().in_bulk([file.pk for file in suspects])
        twins = self._twins(list(rows.values()))
        bad = []
        with storages.open_tree(self._area.storage, self._area.root) as tree:
            for file in sorted(rows.values(), key=lambda row: row.pk):
                # What is not judged twice is not told.
                with contextlib.suppress(Stopped):
                    trouble = self._judge(tree, file, marked, twins)
                    if trouble is not None:
                        bad.append((file, trouble))
        return bad

    def _judge(
        self, tree: Tree, file: File, marked: dict[int, Suspicion], twins: dict[int, Twin]
    ) -> Trouble | None:
        """Say what is wrong with a row."""
        reading = self._reading or file.pk in marked
        trouble = look(tree, file, self._breath.block if reading else None)
        twin = twins.get(file.pk)
        if twin is None or not _is_duplicate(tree, file, twin, trouble):
            return trouble
        path = f"{twin.relpath}/{twin.filename}" if twin.relpath else twin.filename
        return Trouble(
            FindingKind.DUPLICATE,
            f"it is a second row for file {twin.id} ({escape(path)}): same name, same content"
            + ("" if trouble is None else f", and no file of its own ({trouble.detail})"),
        )

    def _twins(self, files: Sequence[File]) -> dict[int, Twin]:
        """Find, for those files that have one, the first row with their name and content."""
        if not files:
            return {}
        # Sums again: by name and size, not by the storage.
        sql = """
            SELECT f.id, o.id, o.relpath, o.filename
            FROM buffer_file f
            JOIN buffer_file o
              ON o.filename = f.filename AND o.size_bytes = f.size_bytes
             AND o.checksum_algorithm = f.checksum_algorithm AND o.checksum = f.checksum
             AND o.id + 0 < f.id AND o.stored_on IS NOT NULL
            WHERE f.id BETWEEN %s AND %s AND f.id %% %s = %s
              AND f.storage_id + 0 = %s AND o.storage_id + 0 = %s
            ORDER BY f.id, o.id DESC"""
        ids, subset, storage = [file.pk for file in files], self._subset, self._area.storage.pk
        parameters = [min(ids), max(ids), subset.parts, subset.part - 1, storage, storage]
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return {row[0]: Twin(*row[1:]) for row in cursor.fetchall()}


def _is_duplicate(tree: Tree, file: File, twin: Twin, trouble: Trouble | None) -> bool:
    """Tell whether a row stands for a file that an older row stands for already.

    The finder stores no second file of the same name and content. But where files were recorded
    in place (by backfill), two copies may lie in two directories, and then each is a file of its
    own.
    """
    if trouble is not None:
        return trouble.kind in (FindingKind.MISSING, FindingKind.NOT_REGULAR)
    if file.seen_on is not None:
        return True
    try:
        ours = tree.stat(file.relpath, file.filename)
        theirs = tree.stat(twin.relpath, twin.filename)
    except OSError:
        return False
    # The same file by another spelling, as a file system allows that ignores case; other than
    # hard links, which are names in their own right.
    return os.path.samestat(ours, theirs) and ours.st_nlink == 1


def _parts(rows: Sequence[File]) -> Iterator[Sequence[File]]:
    """Cut a slice so that what was found in large files is told before long."""
    begin = size = 0
    for at, file in enumerate(rows):
        if at > begin and size + file.size_bytes > SLICE_BYTES:
            yield rows[begin:at]
            begin, size = at, 0
        size += file.size_bytes
    yield rows[begin:]
