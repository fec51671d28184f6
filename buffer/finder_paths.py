"""Whether the directories that configurations name are there, and apart from each other."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from buffer.finder_config import Finder, FinderFile, SearchMethod, StandardAction
from buffer.names import escape


def check_paths(config: FinderFile) -> list[str]:
    """Check the directories of a finder's file against the file system; nothing is changed.

    Returns
    -------
    problems : `list` [`str`]
        Lines that begin with the key; empty if all is well.
    """
    finder = config.finder
    in_place = finder.actions.standard is StandardAction.NOOP
    logs = finder.search.method is SearchMethod.PARSE_RSYNC_LOGS
    problems = why_not_directory("finder.source", finder.source)
    problems += why_not_directory("finder.storage", finder.storage, writable=not in_place)
    if finder.duplicates is not None:
        problems += why_not_directory("finder.duplicates", finder.duplicates, writable=True)
    if problems:
        return problems
    same = os.path.samefile(finder.source, finder.storage)
    if not logs:
        problems += _source_and_storage(finder, same=same, in_place=in_place)
    if finder.duplicates is not None:
        for key, root in (("source", finder.source), ("storage", finder.storage)):
            if is_inside(finder.duplicates, root) or is_inside(root, finder.duplicates):
                problems.append(
                    f"finder.duplicates: {escape(finder.duplicates)} and finder.{key} "
                    f"{escape(root)} are one inside the other: set duplicates aside elsewhere"
                )
    return problems


def _source_and_storage(finder: Finder, *, same: bool, in_place: bool) -> list[str]:
    if same:
        if in_place:
            return []
        return [
            "finder.actions.standard: Move needs a source that is not the storage; "
            "use Noop to record files where they are"
        ]
    if in_place:
        return [
            "finder.actions.standard: Noop with search.method "
            f"{finder.search.method} records files where they are, so finder.source must be "
            "finder.storage: use Move, or make them the same"
        ]
    if is_inside(finder.source, finder.storage):
        return [
            f"finder.source: {escape(finder.source)} is inside finder.storage "
            f"{escape(finder.storage)}: files would be taken in from the storage itself"
        ]
    if is_inside(finder.storage, finder.source):
        return [
            f"finder.storage: {escape(finder.storage)} is inside finder.source "
            f"{escape(finder.source)}: stored files would be found as new ones"
        ]
    return []


def is_inside(path: Path, root: Path) -> bool:
    """Tell if ``path`` is ``root`` or below it, symbolic links followed."""
    real, root = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    return real == root or root in real.parents


def why_not_directory(key: str, path: Path, *, writable: bool = False) -> list[str]:
    """Say why ``path`` cannot serve as a directory, as a list of no or one problem."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return [f"{key}: there is no directory {escape(path)}: make it, or correct the path"]
    except OSError as error:
        return [f"{key}: {escape(path)} cannot be used: {error.strerror}"]
    if not stat.S_ISDIR(mode):
        return [f"{key}: {escape(path)} is not a directory"]
    if not os.access(path, os.R_OK | os.X_OK):
        return [f"{key}: {escape(path)} cannot be read by this user: permission is missing"]
    if writable and not os.access(path, os.W_OK):
        return [f"{key}: {escape(path)} cannot be written to by this user: permission is missing"]
    return []
