"""What an attempt says of each of its files."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class StopRequested(Exception):
    """Raised by a tick to end an attempt because the operator wants to stop.

    Parameters
    ----------
    time_left_s : float
        How long, in seconds, the plugin may still be asked which files got in; 0 to not ask.
    """

    def __init__(self, message: str = "stop requested", time_left_s: float = 0.0) -> None:
        super().__init__(message)
        self.time_left_s = time_left_s


class VerdictKind(enum.Enum):
    """What an attempt found out about a file."""

    SUCCESS = "SUCCESS"  # the target has it
    FAILURE = "FAILURE"  # the target refused it
    UNKNOWN = "UNKNOWN"  # the attempt's end was not seen
    GIVE_BACK = "GIVE_BACK"  # the attempt never started; to be as it was before the claim


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of an attempt for one file.

    Parameters
    ----------
    path : str
        The path as it was given to `attempt`.
    kind : VerdictKind
        What is known.
    message : str
        For the operator: why, or a note.
    transient : bool
        FAILURE only: trying again later may help.
    duration_s : float
        Time since the verdict before it in the same call, in seconds.
    version : str
        The plugin's version; empty if it was never loaded.
    """

    path: str
    kind: VerdictKind
    message: str = ""
    transient: bool = False
    duration_s: float = 0.0
    version: str = ""
