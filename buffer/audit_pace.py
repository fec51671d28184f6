"""How much an audit looks at, how fast, and until when."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self


class Stopped(Exception):
    """Somebody asked the audit to stop."""


@dataclass(frozen=True, slots=True)
class Subset:
    """One part of all rows and of all files in storage; N parts are the whole.

    Rows are told apart by their ids, so that the database gives out one part only; files in
    storage by a digest of their path, which needs no row. Neither ever changes.

    Parameters
    ----------
    part, parts : `int`
        ``K`` and ``N`` of ``K/N``; ``K`` counts from 1.
    """

    part: int = 1
    parts: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``K/N``.

        Raises
        ------
        ValueError
            It is not of this form.
        """
        part, slash, parts = text.partition("/")
        if slash and part.isdecimal() and parts.isdecimal():
            subset = cls(int(part), int(parts))
            if 1 <= subset.part <= subset.parts <= 1_000_000:
                return subset
        raise ValueError(f"expected K/N with K from 1 to N, such as 1/30, got {text!r}")

    @property
    def is_whole(self) -> bool:
        """Whether it is everything."""
        return self.parts == 1

    def has_path(self, path: str) -> bool:
        """Tell whether a file in storage is in this part."""
        if self.parts == 1:
            return True
        digest = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.parts == self.part - 1

    def __str__(self) -> str:
        return f"{self.part}/{self.parts}"


class Stop(Protocol):
    """Something that may ask us to stop; see `buffer.signals.StopSignals`."""

    requested: bool

    def wait(self, seconds: float) -> bool:
        """Sleep, but not past such a request."""


class Breath:
    """Counts what is done, keeps to a rate, and notices that it is time to stop.

    Parameters
    ----------
    stop : `Stop`
        Who may ask to stop.
    max_rate : `float` or `None`
        Bytes that may be read in a second.
    tell : callable
        Called after each file and each block: who shows progress decides when.
    """

    def __init__(self, stop: Stop, max_rate: float | None, tell: Callable[[], None]) -> None:
        self._stop, self._max_rate, self._tell = stop, max_rate, tell
        self._free_at = time.monotonic()
        #: Files that were looked at, in this direction; bytes that were read.
        self.files = 0
        self.size_bytes = 0

    def file(self, count: int = 1) -> None:
        """Note that files were looked at."""
        self.files += count
        self.check()

    def block(self, data: bytes) -> None:
        """Note that a block was read, and wait if that was too fast."""
        self.size_bytes += len(data)
        if self._max_rate is not None:
            now = time.monotonic()
            # Time that was not used is not saved up for a burst.
            self._free_at = max(self._free_at, now) + len(data) / self._max_rate
            while not self._stop.requested and (left := self._free_at - time.monotonic()) > 0:
                self._stop.wait(min(left, 1.0))
                self._tell()
        self.check()

    def check(self) -> None:
        """Stop here if that is asked for.

        Raises
        ------
        Stopped
            It is.
        """
        self._tell()
        if self._stop.requested:
            raise Stopped
