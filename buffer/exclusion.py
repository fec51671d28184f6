"""Exclude lists: regular expressions from the configuration, matched in bounded time.

The expressions are Python's, lookaheads included.  Such an expression can take exponential time
on an unlucky name, and names come from outside; so each search has a deadline, which `re` does
not offer and `regex` does.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Final

import regex

from buffer.names import escape

logger = logging.getLogger(__name__)

# What remains of the allowance of a pattern that timed out again and again.
_LEAST_ALLOWANCE_S: Final = 0.002


class ExcludeList:
    """Paths to be ignored.

    Parameters
    ----------
    patterns : `~collections.abc.Iterable` [ `str` ] or `None`
        Regular expressions; each is searched for anywhere in the path.
    timeout_s : `float`
        Seconds that one pattern may take for one path.  Each time a pattern uses them up, its
        next searches get half as long (never less than 2 ms), and each time it does not, twice
        as long again: a bad pattern over a million names must not hold up the finder for hours.

    Raises
    ------
    ValueError
        If a pattern is no regular expression; the message names it and the place of the error.
    """

    def __init__(self, patterns: Iterable[str] | None, timeout_s: float = 0.1) -> None:
        if not (timeout_s > 0 and math.isfinite(timeout_s)):
            raise ValueError(f"timeout_s: expected seconds above 0, got {timeout_s!r}")
        self._timeout_s = timeout_s
        self._patterns = [_Pattern(pattern, timeout_s) for pattern in patterns or ()]

    def __len__(self) -> int:
        return len(self._patterns)

    def matches(self, path: str) -> str | None:
        """Find the pattern that excludes a path.

        Parameters
        ----------
        path : `str`
            Path below the root, separated by ``/``.

        Returns
        -------
        pattern : `str` or `None`
            The first pattern found in the path; `None` if there is none.  A pattern that runs
            out of time counts as not found and is warned of once in the log.
        """
        for pattern in self._patterns:
            if pattern.is_in(path):
                return pattern.text
        return None


class _Pattern:
    def __init__(self, text: str, timeout_s: float) -> None:
        self.text = text
        try:
            self._compiled = regex.compile(text)
        except (regex.error, RecursionError, OverflowError) as error:
            raise ValueError(
                f"{escape(text)!s}: expected a regular expression: {error or type(error).__name__}"
            ) from None
        self._most_s = timeout_s
        self._allowance_s = timeout_s
        self._warned = False

    def is_in(self, path: str) -> bool:
        try:
            found = self._compiled.search(path, timeout=self._allowance_s) is not None
        except TimeoutError:
            self._warn(path)
            self._allowance_s = max(self._allowance_s / 2, min(_LEAST_ALLOWANCE_S, self._most_s))
            return False
        if self._allowance_s < self._most_s:
            self._allowance_s = min(self._allowance_s * 2, self._most_s)
        return found

    def _warn(self, path: str) -> None:
        if self._warned:
            return
        self._warned = True
        logger.warning(
            "exclude_list: the pattern %s took longer than %g s for the path %s, which counts as "
            "not excluded; simplify the pattern (nested repetitions such as (a+)+ explode)",
            escape(self.text),
            self._most_s,
            escape(path),
        )
