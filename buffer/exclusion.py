"""Lists of regular expressions from the configuration, matched in bounded time.

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


class PatternList:
    """Regular expressions that are searched for in paths.

    Parameters
    ----------
    patterns : `~collections.abc.Iterable` [ `str` ] or `None`
        Each is searched for anywhere in the path.
    key : `str`
        Where they come from, for the log.
    timeout_s : `float`
        Seconds that one pattern may take for one path.  Each time a pattern uses them up, its
        next searches get half as long (never less than 2 ms), and each time it does not, twice
        as long again: a bad pattern over a million names must not hold up the finder for hours.
    when_too_slow : `bool`
        Whether a pattern that runs out of time counts as found.

    Raises
    ------
    ValueError
        If a pattern is no regular expression; the message names it and the place of the error.
    """

    def __init__(
        self,
        patterns: Iterable[str] | None,
        key: str = "exclude_list",
        *,
        timeout_s: float = 0.1,
        when_too_slow: bool = False,
    ) -> None:
        if not (timeout_s > 0 and math.isfinite(timeout_s)):
            raise ValueError(f"timeout_s: expected seconds above 0, got {timeout_s!r}")
        self._patterns = [
            _Pattern(pattern, key, timeout_s, when_too_slow) for pattern in patterns or ()
        ]

    def __len__(self) -> int:
        return len(self._patterns)

    def matches(self, path: str) -> str | None:
        """Find the pattern that a path has.

        Parameters
        ----------
        path : `str`
            Path below the root, separated by ``/``.

        Returns
        -------
        pattern : `str` or `None`
            The first pattern found in the path; `None` if there is none.  A pattern that runs
            out of time is warned of once in the log.
        """
        for pattern in self._patterns:
            if pattern.is_in(path):
                return pattern.text
        return None


class _Pattern:
    def __init__(self, text: str, key: str, timeout_s: float, when_too_slow: bool) -> None:
        self.text, self._key, self._when_too_slow = text, key, when_too_slow
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
            return self._when_too_slow
        if self._allowance_s < self._most_s:
            self._allowance_s = min(self._allowance_s * 2, self._most_s)
        return found

    def _warn(self, path: str) -> None:
        if self._warned:
            return
        self._warned = True
        logger.warning(
            "%s: the pattern %s took longer than %g s for the path %s, which counts as %s; "
            "simplify the pattern (nested repetitions such as (a+)+ explode)",
            self._key,
            escape(self.text),
            self._most_s,
            escape(path),
            "matching" if self._when_too_slow else "not matching",
        )
