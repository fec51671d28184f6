"""Tracked files that arrivals may collide with: by place, or by name and content."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Final

from buffer import dialect
from buffer.discovery import Arrival
from buffer.models import File, Storage
from buffer.reading import Reading

_COLUMNS: Final = {"relpath": "text", "filename": "text", "size_bytes": "id"}


class Candidates:
    """Tracked files that the arrivals of one batch may collide with.

    Parameters
    ----------
    rows : `~collections.abc.Collection` [`File`]
        The files; `look_up` finds them.
    """

    def __init__(self, rows: Collection[File]) -> None:
        self._by_content: dict[tuple[str, int], list[File]] = defaultdict(list)
        self._by_place: dict[tuple[str, str], File] = {}
        for row in rows:
            self._by_place[row.relpath, row.filename] = row
            if row.stored_on is not None:
                self._by_content[row.filename, row.size_bytes].append(row)

    def algorithms(self, arrival: Arrival) -> set[str]:
        """Checksums under which an arrival must be known to be compared."""
        candidates = self._by_content.get((arrival.filename, arrival.stat.st_size), ())
        return {row.checksum_algorithm for row in candidates}

    def same_as(self, reading: Reading) -> File | None:
        """The stored file of the same name and content: at the same place, if there is one."""
        arrival = reading.arrival
        same = [
            row
            for row in self._by_content.get((arrival.filename, arrival.stat.st_size), ())
            if reading.checksums.get(row.checksum_algorithm) == row.checksum
        ]
        return min(same, key=lambda row: (row.relpath != arrival.relpath, row.pk), default=None)

    def in_place_of(self, arrival: Arrival) -> File | None:
        """The tracked file that has the arrival's place in storage."""
        return self._by_place.get((arrival.relpath, arrival.filename))


def look_up(storage: Storage, arrivals: Sequence[Arrival]) -> Candidates:
    """Find, in one query, every tracked file that a batch may collide with.

    Parameters
    ----------
    storage : `Storage`
        The storage area's row.
    arrivals : `~collections.abc.Sequence` [`Arrival`]
        The batch; `buffer.names.why_bad` finds nothing wrong with any of their names.
    """
    wanted = [
        {"relpath": a.relpath, "filename": a.filename, "size_bytes": a.stat.st_size}
        for a in arrivals
    ]
    # Each half has an index of its own. Without the sum PostgreSQL would use that of places for the
    # first, too, in a storage area that is new: it believes that it has no files.
    same = "f.storage_id + 0 = %s AND f.filename = w.filename AND f.size_bytes = w.size_bytes"
    place = "f.storage_id = %s AND f.relpath = w.relpath AND f.filename = w.filename"
    sql = f"""
        WITH wanted AS (SELECT v.* FROM {dialect.rows_from_json(_COLUMNS)})
        SELECT f.* {dialect.for_each("wanted w", "buffer_file f", same)}
        UNION
        SELECT f.* {dialect.for_each("wanted w", "buffer_file f", place)}"""
    return Candidates(list(File.objects.raw(sql, [json.dumps(wanted), storage.pk, storage.pk])))
