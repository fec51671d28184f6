"""The error that stops a command before it starts: what is wrong with the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from buffer.names import escape
from buffer.redaction import redact_slip


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
        text = redact_slip(self.text)
        return f"{place}: {self.key}: {text}" if self.key else f"{place}: {text}"


class ConfigError(Exception):
    """A configuration that cannot be used; commands exit with status 2.

    Parameters
    ----------
    problems : `str` or `~collections.abc.Iterable` [`str`]
        One line per problem, each complete in itself: where, what was expected, what to do.
        What looks like a password in them is hidden.

    Attributes
    ----------
    problems : `list` [`str`]
        The same lines.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        lines = [problems] if isinstance(problems, str) else problems
        self.problems = [redact_slip(line) for line in lines]
        super().__init__("\n".join(self.problems))
