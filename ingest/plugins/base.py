"""The plugin contract: what a class must offer to ingest files into a target.

A plugin is loaded once into a child process of its own (the plugin host) and is called there
with batches of absolute paths.  It never sees the database, Django or the configuration file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

__all__ = ["Outcome", "Plugin", "PluginConfigError", "SupportsContains"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file.

    Parameters
    ----------
    path : str
        The path exactly as it was handed to the plugin.
    ok : bool
        Whether the target has the file now.
    message : str
        Failure: why, in words for an operator.  Success: an optional note
        ("already ingested").
    transient : bool
        Failure only: trying the same file again later may help (target busy, network down).
        A permanent failure is never tried again without an operator.
    """

    path: str
    ok: bool
    message: str = ""
    transient: bool = False

    @classmethod
    def success(cls, path: str, note: str = "") -> Outcome:
        """Return the outcome of a file that the target has now."""
        return cls(path=path, ok=True, message=note)

    @classmethod
    def failure(cls, path: str, message: str, transient: bool = False) -> Outcome:
        """Return the outcome of a file that the target refused."""
        return cls(path=path, ok=False, message=message, transient=transient)


class PluginConfigError(ValueError):
    """The plugin's configuration is wrong; waiting will not help.

    Raised by a plugin's constructor.  The message names the key (``plugin.config.butler.root``)
    and the remedy; the command that reads it exits with status 2.  Any *other* exception of a
    constructor means that the target is not available now: it is tried again later and no file
    is charged an attempt.
    """


class Plugin(ABC):
    """Base class of plugins; subclassing it is a convenience, not a requirement.

    Parameters
    ----------
    config : Mapping[str, Any]
        The validated ``plugin.config`` mapping of the YAML file, defaults filled in.

    Raises
    ------
    PluginConfigError
        From a constructor: the configuration is wrong, and waiting will not help.

    Notes
    -----
    A plugin may also offer ``contains(paths)``, which returns those of the paths that are in
    the target already (see `SupportsContains`).  It is what lets a batch that ended badly be
    settled file by file.
    """

    #: True if a file is begun only after the outcome of the one before has been yielded.
    #: Then, should the plugin die, only the first file without an outcome is in doubt.
    in_order: ClassVar[bool] = False

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    @abstractmethod
    def version(self) -> str:
        """Return the version of what ingests, recorded with every event."""

    @abstractmethod
    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        """Ingest files and yield one outcome for each of them, as soon as it is known.

        Parameters
        ----------
        paths : Sequence[str]
            Absolute paths.  A name that is not valid UTF-8 carries surrogates, as
            `os.fsdecode` makes them.

        Yields
        ------
        Outcome
            One per path.  Any order will do, unless the class declares `in_order`.
        """


@runtime_checkable
class SupportsContains(Protocol):
    """A plugin that can tell which files its target has already."""

    def contains(self, paths: Sequence[str]) -> Collection[str]:
        """Return those of the paths that are in the target already."""
        ...
