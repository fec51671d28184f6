"""From the storage to the database: has every file a row?

A finder commits its intent before a file appears in storage, and takes a file out of storage
before the intent is deleted. So a file that is seen, has no row, and is seen again is nobody's
take-in that is under way.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Final

from django.db import connection

from buffer import dialect, storages
from buffer.audit_config import Area
from buffer.audit_findings import Finding, of_directory, of_file
from buffer.audit_look import HOPELESS, StorageFailed
from buffer.audit_pace import Breath, Subset
from buffer.discovery import Arrival, scan
from buffer.names import why_bad

#: Files that are looked up together.
SLICE: Final = 1000
#: Looks at a file without a row before it is told of.
_LOOKS: Final = 2


class FilesAudit:
    """Looks for the row of every file in a storage area.

    Left out are the storage's own files (the marker, ``.incoming``), writers' temporary names, and
    what is no regular file and so holds no bytes of its own.

    Parameters
    ----------
    area : `Area`
        The storage area.
    subset : `Subset`
        Which files.
    breath : `Breath`
        Counts and paces.
    """

    def __init__(self, area: Area, subset: Subset, *, breath: Breath) -> None:
        self._area, self._subset, self._breath = area, subset, breath
        self._unreadable: list[tuple[str, OSError]] = []
        #: The directory where it is.
        self.at = ""

    def findings(self) -> Iterator[Finding]:
        """Walk through the storage area.

        Raises
        ------
        Stopped
            Somebody wants it to end; what was looked at is told.
        NotMounted, StorageFailed
            Nothing can be judged.
        """
        self._prove()
        arrivals = scan(self._area.root, skip=self._skips, onerror=self._note)
        while batch := list(itertools.islice(arrivals, SLICE)):
            self.at = batch[-1].relpath
            unknown = [found for found in batch if found.is_regular]
            for _ in range(_LOOKS):
                unknown = self._without_row(unknown) if unknown else unknown
                unknown = self._still_there(unknown) if unknown else unknown
            yield from self._directories()
            for arrival in unknown:
                bad = why_bad(arrival.relpath, arrival.filename)
                yield of_file(self._area, arrival.path, bad)
            self._breath.file(len(batch))
        # Had it been unmounted meanwhile, there would simply have been no more files.
        self._prove()
        yield from self._directories()

    def _skips(self, relpath: str, filename: str) -> bool:
        path = f"{relpath}/{filename}" if relpath else filename
        return not self._subset.has_path(path) or self._area.is_left_out(relpath, filename)

    def _note(self, path: str, error: OSError) -> None:
        if error.errno in HOPELESS:
            raise StorageFailed(os.strerror(error.errno or 0)) from error
        # Others may remove and replace directories while we walk.
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            self._unreadable.append((path, error))

    def _directories(self) -> Iterator[Finding]:
        found, self._unreadable = self._unreadable, []
        for path, error in found:
            yield of_directory(self._area, path, os.strerror(error.errno or 0))

    def _prove(self) -> None:
        storages.open_tree(self._area.storage, self._area.root).close()

    def _without_row(self, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Give those that have no row; an intent is a row too."""
        places = [
            {"relpath": each.relpath, "filename": each.filename, "number": str(number)}
            for number, each in enumerate(arrivals)
            # The database could not even hold the others.
            if why_bad(each.relpath, each.filename) is None
        ]
        columns = {"relpath": "text", "filename": "text", "number": "text"}
        # CROSS keeps SQLite from going through all files of the storage for each batch.
        sql = f"""
            SELECT v.number FROM {dialect.rows_from_json(columns)}
            CROSS JOIN buffer_file f
            WHERE f.storage_id = %s AND f.relpath = v.relpath AND f.filename = v.filename"""
        with connection.cursor() as cursor:
            cursor.execute(sql, [json.dumps(places), self._area.storage.pk])
            known = {int(number) for (number,) in cursor.fetchall()}
        return [each for number, each in enumerate(arrivals) if number not in known]

    def _still_there(self, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Give those that are still there, and for so long that they should have a row."""
        there = []
        with storages.open_tree(self._area.storage, self._area.root) as tree:
            for arrival in arrivals:
                try:
                    state = tree.stat(arrival.relpath, arrival.filename)
                except OSError:
                    # Gone, or its directory is; what cannot be read is told by the walk.
                    continue
                young = time.time() - state.st_ctime < self._area.patience_s
                if os.path.samestat(state, arrival.stat) and not young:
                    there.append(arrival)
        return there
