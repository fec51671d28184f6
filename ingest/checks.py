"""What is looked at before a file is given to a plugin. The first failure decides."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from buffer import storages
from buffer.exclusion import PatternList
from buffer.models import Storage
from buffer.problems import ConfigError
from ingest.statuses import Status


class StorageUnavailable(Exception):
    """The storage area is not there now: that a file is missing says nothing about the file."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a file is not given to the plugin."""

    status: Status
    message: str


#: Looks at a file by its path in the storage area, and by its path on this host.
Check = Callable[[str, str], Objection | None]


def checks(include: Sequence[str], exclude: Sequence[str]) -> list[Check]:
    """Make the checks of one ingester, in their order.

    Parameters
    ----------
    include : `~collections.abc.Sequence` [`str`]
        Regular expressions; only files that match any are ingested. Empty: all.
    exclude : `~collections.abc.Sequence` [`str`]
        Regular expressions; files that match any are not.
    """
    wanted = PatternList(include, "include_list", when_too_slow=True)
    unwanted = PatternList(exclude)

    def included(name: str, _: str) -> Objection | None:
        if not len(wanted) or wanted.matches(name) is not None:
            return None
        return Objection(Status.IGNORED, "no pattern of ingester.include_list matches")

    def not_excluded(name: str, _: str) -> Objection | None:
        pattern = unwanted.matches(name)
        if pattern is None:
            return None
        return Objection(Status.IGNORED, f"ingester.exclude_list has {pattern!r}")

    return [included, not_excluded, _in_storage]


def first_objection(checks: Sequence[Check], name: str, path: str) -> Objection | None:
    """Run the checks on one file until one objects."""
    for check in checks:
        objection = check(name, path)
        if objection is not None:
            return objection
    return None


def require_storage(storage: Storage, root: str) -> None:
    """Look for the storage's marker: below an empty mount point no file is missing.

    Parameters
    ----------
    storage : `Storage`
        The storage area's row.
    root : `str`
        Where it is mounted here.

    Raises
    ------
    StorageUnavailable
        The marker is not there.
    """
    if storage.marked_on is None:
        return
    try:
        storages.open_tree(storage, Path(root)).close()
    except (storages.NotMounted, ConfigError, OSError) as error:
        raise StorageUnavailable(f"nothing can be ingested: {error}") from error


def _in_storage(_: str, path: str) -> Objection | None:
    try:
        state = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        return Objection(Status.INVALID, f"it is not in storage: {error.strerror}")
    except OSError:
        # The directory may not be read now, or the medium fails: that says nothing of the file,
        # and the plugin's own error tells whether another attempt may help.
        return None
    if not stat.S_ISREG(state.st_mode):
        return Objection(Status.INVALID, "storage has something else than a regular file there")
    if state.st_size == 0:
        return Objection(Status.INVALID, "it is empty")
    return None
