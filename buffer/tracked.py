"""Files in storage that are tracked already: passed over without being read again.

Only for finders that record files where they are; a moved file is gone from its buffer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence, Set
from typing import Final

from buffer.discovery import Arrival, identity
from buffer.models import File, Storage
from buffer.names import why_bad

#: Files remembered without asking the database: some 60 bytes for each.
_REMEMBERED: Final = 2_000_000


class Tracked:
    """Knows which files of a storage area are recorded as they are.

    Parameters
    ----------
    storage : `Storage`
        The storage area's row.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        # Hashes only: the names of all files of a storage area would fill the memory.
        self._seen: set[int] = set()

    def remembers(self, path: str, stat: os.stat_result) -> bool:
        """Tell whether the file was found to be tracked and has not changed since."""
        return hash((path, identity(stat))) in self._seen

    def unknown(self, arrivals: Sequence[Arrival], updated: Set[str]) -> list[Arrival]:
        """Give those files that are not tracked, or have changed.

        Parameters
        ----------
        arrivals : `~collections.abc.Sequence` [`Arrival`]
            Files in storage.
        updated : `~collections.abc.Set` [`str`]
            Paths of files that were written again, as a log says: their size proves nothing.
        """
        names = [arrival for arrival in arrivals if not why_bad(arrival.relpath, arrival.filename)]
        rows = (
            File.objects.stored()
            .filter(
                storage=self._storage,
                relpath__in={arrival.relpath for arrival in names},
                filename__in={arrival.filename for arrival in names},
            )
            .values_list("relpath", "filename", "size_bytes")
        )
        sizes = {(relpath, filename): size for relpath, filename, size in rows}
        fresh = []
        for arrival in arrivals:
            size = sizes.get((arrival.relpath, arrival.filename))
            if size != arrival.stat.st_size or arrival.path in updated:
                fresh.append(arrival)
            elif len(self._seen) < _REMEMBERED:
                self._seen.add(hash((arrival.path, arrival.identity)))
        return fresh
