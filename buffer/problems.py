"""The error that stops a command before it starts: what is wrong with the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from buffer.names import escape


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in a configuration file."""

    line: int
    """Line in the file, from 1; 0 if the problem has no line."""
    key: str
    """The key's whole path (``finder.search.past_days``); empty if it is about the file."""
    text: str

    def show(self, path: str) -> str:
        """Give the problem as one line for an operator; ``path`` names the file."""
        place = f"{escape(path)}:{self.line}" if self.line else escape(path)
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


class ConfigError(Exception):
    """A configuration that cannot be used; commands exit with status 2.

    Parameters
    ----------
    problems : `str` or `~collections.abc.Iterable` [`str`]
        One line per problem, each complete in itself: where, what was expected, what to do.
        They must be free of secrets.

    Attributes
    ----------
    problems : `list` [`str`]
        The same lines.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))
