"""Cutting a stream of arrivals into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from buffer.discovery import Arrival

#: Files of one batch share the costs of queries, commits and syncs; more would gain little, make
#: the first of them wait, and need more open files (two for each) than a process may have.
FILES: Final = 300
BYTES: Final = 256 << 20
#: From this size on, a file waits until the small ones around it are through.
LARGE: Final = 64 << 20


def batches(arrivals: Iterable[Arrival]) -> Iterator[list[Arrival]]:
    """Group arrivals by number and size, in their order, large ones in batches of their own.

    Yields
    ------
    batch : `list` [`Arrival`]
        Never empty. Large files do not hold up the small ones that are found with them.
    """
    small: list[Arrival] = []
    large: list[Arrival] = []
    small_bytes = large_bytes = 0
    for arrival in arrivals:
        size = arrival.stat.st_size
        if size >= LARGE:
            large.append(arrival)
            large_bytes += size
        else:
            small.append(arrival)
            small_bytes += size
        if len(small) >= FILES or small_bytes >= BYTES or large_bytes >= BYTES:
            if small:
                yield small
                small, small_bytes = [], 0
            if large_bytes >= BYTES:
                yield large
                large, large_bytes = [], 0
    if small:
        yield small
    if large:
        yield large
