"""Durations in buckets, as a process collects them and the database keeps them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

#: Upper bounds, in s; beyond the last one there is one more bucket.
TAKE_IN_S: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0)
ATTEMPT_S: Final = (0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 60.0, 300.0, 1200.0)


class Histogram:
    """How many durations were how long.

    Parameters
    ----------
    bounds : `~collections.abc.Sequence` [`float`]
        Upper bounds of the buckets in s, growing.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        #: One for each bound, and one for what is longer.
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum_s = 0.0

    @classmethod
    def load(cls, plain: Mapping[str, Any], bounds: Sequence[float]) -> Histogram:
        """Read one that was written down; one with other bounds, of an older version, is empty."""
        found = cls(bounds)
        if tuple(plain.get("bounds", ())) == found.bounds:
            found.counts, found.sum_s = list(plain["counts"]), float(plain["sum_s"])
        return found

    def plain(self) -> dict[str, Any]:
        """Write it down as JSON's types."""
        return {"bounds": list(self.bounds), "counts": self.counts, "sum_s": self.sum_s}

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum_s += seconds

    def add(self, counts: Sequence[int], sum_s: float) -> None:
        """Count those of another one with the same bounds."""
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        self.sum_s += sum_s

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Give, for each bound as text, how many are not longer; ``+Inf`` for all."""
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            yield ("+Inf" if bound == float("inf") else repr(bound)), total
