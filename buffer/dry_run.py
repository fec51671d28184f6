"""What a finder would do now, without doing it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from buffer.batches import batches
from buffer.candidates import Candidates, look_up
from buffer.discovery import Arrival, scan
from buffer.exclusion import PatternList
from buffer.finder_config import FinderFile, SearchMethod, StandardAction
from buffer.hashing import checksums
from buffer.log_search import LogSearch
from buffer.models import Storage
from buffer.names import escape, why_bad
from buffer.reading import Reading
from buffer.refusals import Refusals
from buffer.settling import is_open_for_writing
from buffer.trees import Tree


def rehearse(config: FinderFile) -> Iterator[str]:
    """Say for every arrival what a finder would do with it.

    Parameters
    ----------
    config : `FinderFile`
        The finder's YAML file.

    Yields
    ------
    line : `str`
        What would be done, a tab, and the path, escaped.
    """
    # A lease that is broken by a writer is told by SIGIO, whose default is to kill.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    finder = config.finder
    move = finder.actions.standard is StandardAction.MOVE
    storage = Storage.objects.filter(name=config.database.file_table).first()
    excluded = PatternList(finder.search.exclude_list)
    problems: list[str] = []
    with Tree(finder.source if move else finder.storage) as tree:
        if finder.search.method is SearchMethod.PARSE_RSYNC_LOGS:
            search = LogSearch(finder, _Silent())
            search.begin(tree, tree)
            arrivals = search.arrivals()
        else:
            arrivals = scan(
                tree.root,
                onerror=lambda path, error: problems.append(
                    f"unreadable: {error.strerror}\t{escape(path)}"
                ),
            )
        for batch in batches(arrivals):
            good = [arrival for arrival in batch if not why_bad(arrival.relpath, arrival.filename)]
            found = Candidates([]) if storage is None else look_up(storage, good)
            for arrival in batch:
                pattern = excluded.matches(arrival.path)
                fate = (
                    f"excluded by {pattern!r}"
                    if pattern is not None
                    else _fate(arrival, tree, found, config, move=move)
                )
                yield f"{fate}\t{escape(arrival.path)}"
    yield from problems


class _Silent(Refusals):
    """Refusals that are not recorded."""

    def __init__(self) -> None:
        """Know nothing."""

    def missing(self, *_: object) -> None:
        """Record nothing."""

    def resolve_missing(self, *_: object) -> None:
        """Record nothing."""

    def stands(self, *_: object) -> bool:
        """Look at everything."""
        return False

    def stands_for_good(self, *_: object) -> bool:
        """Look at everything."""
        return False


def _fate(
    arrival: Arrival, tree: Tree, found: Candidates, config: FinderFile, *, move: bool
) -> str:
    bad = why_bad(arrival.relpath, arrival.filename)
    if bad is not None:
        return f"refused, BAD_NAME: {bad}"
    if not arrival.is_regular:
        return "refused, NOT_REGULAR"
    if move and time.time() - arrival.stat.st_ctime < config.finder.search.delay_s:
        return "waits: it changed just now"
    try:
        descriptor = tree.open_file(arrival.relpath, arrival.filename)
    except OSError as error:
        return f"refused: {error.strerror}"
    try:
        if move and is_open_for_writing(descriptor):
            return "waits: somebody is writing it"
        algorithms = {str(config.finder.checksum), *found.algorithms(arrival)}
        reading = Reading(arrival, descriptor, checksums(descriptor, algorithms))
    except OSError as error:
        return f"refused: {error.strerror}"
    finally:
        os.close(descriptor)
    same, taken = found.same_as(reading), found.in_place_of(arrival)
    if same is not None and not (same == taken and not move):
        return f"duplicate of stored file {same.pk}, action {config.finder.actions.alternative}"
    if same is not None:
        return "known"
    if taken is not None:
        return f"refused, conflict with stored file {taken.pk}"
    if not move:
        return "would be recorded"
    if (config.finder.storage / arrival.path).is_symlink() or os.path.exists(
        config.finder.storage / arrival.path
    ):
        return "refused, if it is not the same as the untracked file in storage"
    return "would be stored"
