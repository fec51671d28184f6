"""What people have decided about the conflicts of one source, looked up now and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from buffer.models import Decision, Storage

#: How soon a person's decision is noticed; seconds.
REFRESH_S: Final = 5.0


class Decisions:
    """The standing decisions about one source, by the keys of their refusals.

    Parameters
    ----------
    storage : `Storage`
        Where the arrivals were to go.
    source : `str`
        The buffer they lie in.
    steady : callable
        A clock that is never set.
    """

    def __init__(self, storage: Storage, source: str, steady: Callable[[], float]) -> None:
        self._storage, self._source, self._steady = storage, source, steady
        self._by_key: dict[bytes, Decision] = {}
        self._left_over: list[Decision] = []
        self._load_at = steady()

    def __len__(self) -> int:
        return len(self._by_key)

    def load(self) -> None:
        """Look, now and then, what there is."""
        if self._steady() < self._load_at:
            return
        self._load_at = self._steady() + REFRESH_S
        # Few stand, so these lead: joined, SQLite would look through all refusals first.
        standing = Decision.objects.standing().prefetch_related("refusal")
        self._by_key, self._left_over = {}, []
        for row in sorted(standing, key=lambda row: row.pk):
            if (row.refusal.storage_id, row.refusal.source) != (self._storage.pk, self._source):
                continue
            if row.refusal.resolved_on is None:
                self._by_key[bytes.fromhex(row.refusal.key)] = row
            else:
                self._left_over.append(row)

    def get(self, key: bytes) -> Decision | None:
        """Give what was decided about a refusal, if it is not done yet."""
        return self._by_key.get(key)

    def left_over(self) -> list[Decision]:
        """Give the decisions whose refusals were closed before they were seen to be done."""
        return list(self._left_over)

    def forget(self, decision: Decision) -> None:
        """Forget a decision that is done, or void."""
        self._by_key.pop(bytes.fromhex(decision.refusal.key), None)
        self._left_over = [row for row in self._left_over if row.pk != decision.pk]
