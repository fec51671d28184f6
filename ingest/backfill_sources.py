"""What backfill is to look at: files, directories and glob patterns below a storage area.

A pattern is matched while the tree is walked, part by part, so that only directories that may hold
a match are opened, and each file is met once however many ways there are to match it. Nothing is
kept but the names of directories that are still to be visited.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat as stat_module
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from buffer.exclusion import PatternList
from buffer.names import RESERVED_NAMES, TEMPORARY_DIRS, escape, is_temporary_name
from buffer.trees import Tree

#: After so many entries the walk lets its caller look at other things.
BREATH: Final = 1000

_ANY_DEPTH: Final = "**"
_MAGIC: Final = re.compile(r"[*?\[]")

States = frozenset[int]


class Candidate(NamedTuple):
    """Something below the storage root that a source asks for."""

    path: str
    """Path below the root, as the file system has it."""
    size_bytes: int
    """Its size; 0 where that could not be told."""


class Source:
    """One entry of ``backfill.sources``.

    Parameters
    ----------
    text : `str`
        Path or pattern relative to the storage root. ``*``, ``?`` and ``[...]`` match within one
        part of the path, ``**`` any number of directories; as in a shell, they do not match a dot
        at the beginning of a name. A directory that is matched stands for everything in it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts = [part for part in text.split("/") if part not in ("", ".")]
        if self.parts and set(self.parts) == {_ANY_DEPTH}:
            # No directory at all would be the root, which a shell does not name either.
            self.parts = ["*"]
        self._regexes = [re.compile(fnmatch.translate(part)) for part in self.parts]
        self._all: States = frozenset({len(self.parts)})
        #: The states before anything was matched: how many parts of the pattern are through.
        self.start = self._closed({0})

    def step(self, states: States, name: str) -> States:
        """Give the states in a directory of this name; empty if nothing in it can match."""
        return states if states == self._all else self._closed(self._after(states, name))

    def is_match(self, states: States, name: str) -> bool:
        """Tell whether a file of this name matches."""
        # Not closed: unlike a directory, a file is not matched by a pattern that goes on with `**`.
        return states == self._all or len(self.parts) in self._after(states, name)

    def _after(self, states: States, name: str) -> set[int]:
        hidden = name.startswith(".")
        after: set[int] = set()
        for state in states:
            part = self.parts[state]
            if part == _ANY_DEPTH:
                if not hidden:
                    after.add(state)
            elif (part.startswith(".") or not hidden) and self._regexes[state].match(name):
                after.add(state + 1)
        return after

    def is_complete(self, states: States) -> bool:
        """Tell whether the whole pattern is matched."""
        return states == self._all

    def literal(self, states: States) -> str | None:
        """Give the only name that can match next, if there is just one."""
        if len(states) != 1 or states == self._all:
            return None
        part = self.parts[min(states)]
        return None if _MAGIC.search(part) else part

    def covers(self, path: str) -> bool:
        """Tell whether the pattern matches a file of this path, or a directory above it."""
        *above, name = path.split("/")
        states = self.start
        for directory in above:
            states = self.step(states, directory)
        return self.is_match(states, name)

    def _closed(self, states: set[int]) -> States:
        """Add what ``**`` reaches by matching no directory at all."""
        found = set(states)
        for state in sorted(states):
            while state < len(self.parts) and self.parts[state] == _ANY_DEPTH:
                state += 1
                found.add(state)
        return self._all if len(self.parts) in found else frozenset(found)


class Search:
    """One source looked for in a storage area.

    Parameters
    ----------
    root : `~pathlib.Path`
        The storage root; it may be a symbolic link, below it none is followed.
    source : `Source`
        What to look for.
    """

    def __init__(self, root: Path, source: Source) -> None:
        self._root, self._source = root, source
        #: Whether anything of that name was there, be it an empty directory.
        self.matched = False
        #: Why not, if there is more to say than that it is not there.
        self.hint = ""

    def candidates(self) -> Iterator[Candidate | None]:
        """Walk and name what the source asks for; None now and then, to take breath.

        Temporary names and what belongs to the program are left out. Whatever cannot be looked
        at, or is no regular file, is named too: who opens it finds out and says so.

        Raises
        ------
        OSError
            The storage root itself cannot be read.
        """
        # A tree of its own: another's use of it could close the directory that is being listed.
        with Tree(self._root) as tree:
            self.matched = self._source.is_complete(self._source.start)
            pending = [("", self._source.start)]
            while pending:
                relpath, states = pending.pop()
                below: list[tuple[str, States]] = []
                yield from self._directory(tree, relpath, states, below)
                # The stack is popped from its end: 20240101 is to be visited before 20240102.
                pending.extend(sorted(below, key=lambda pair: pair[0], reverse=True))

    def _directory(
        self, tree: Tree, relpath: str, states: States, below: list[tuple[str, States]]
    ) -> Iterator[Candidate | None]:
        name = self._source.literal(states)
        try:
            if name is not None:
                # No listing: the directory may be huge, or such that it can only be passed through.
                names: Iterable[tuple[str, os.stat_result | None]] = _look(tree, relpath, name)
            else:
                names = _listing(tree, relpath)
            for number, (name, state) in enumerate(names, start=1):
                if number % BREATH == 0:
                    yield None
                yield from self._entry(relpath, name, state, states, below)
        except FileNotFoundError:
            return
        except OSError as error:
            if not relpath:
                raise
            if error.errno == errno.ENOTDIR and not self._source.is_complete(states):
                return
            yield Candidate(relpath, 0)

    def _entry(
        self,
        relpath: str,
        name: str,
        state: os.stat_result | None,
        states: States,
        below: list[tuple[str, States]],
    ) -> Iterator[Candidate]:
        if not relpath and name in RESERVED_NAMES:
            return
        path = f"{relpath}/{name}" if relpath else name
        if state is not None and stat_module.S_ISDIR(state.st_mode):
            after = self._source.step(states, name)
            if after and name not in TEMPORARY_DIRS:
                self.matched |= self._source.is_complete(after)
                below.append((path, after))
        elif self._source.is_match(states, name):
            if not is_temporary_name(name):
                self.matched = True
                yield Candidate(path, 0 if state is None else state.st_size)
        elif (
            state is not None
            and stat_module.S_ISLNK(state.st_mode)
            and self._source.step(states, name)
        ):
            self.hint = f"{escape(path)} is a symbolic link, and those are not followed"


def _look(tree: Tree, relpath: str, name: str) -> Iterator[tuple[str, os.stat_result | None]]:
    # OSError(ENAMETOOLONG) and the like: there can be nothing of such a name.
    directory = tree.directory(relpath)
    try:
        yield name, os.stat(name, dir_fd=directory, follow_symlinks=False)
    except PermissionError:
        yield name, None
    except OSError:
        return


def _listing(tree: Tree, relpath: str) -> Iterator[tuple[str, os.stat_result | None]]:
    with os.scandir(tree.directory(relpath)) as listing:
        for entry in listing:
            try:
                yield entry.name, entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError:
                yield entry.name, None


class Walk:
    """All sources, one after the other; what several of them ask for is named once.

    Parameters
    ----------
    root : `~pathlib.Path`
        The storage root.
    sources : `~collections.abc.Sequence` [`Source`]
        What to look for.
    excluded : `PatternList`
        Paths to be left out.
    """

    def __init__(self, root: Path, sources: Sequence[Source], excluded: PatternList) -> None:
        self._root, self._sources, self._excluded = root, sources, excluded
        self.excluded = 0
        #: Why each source that matched nothing did not, by its text.
        self.unmatched: dict[str, str] = {}

    def candidates(self) -> Iterator[Candidate | None]:
        """Name everything that is to be looked at; None now and then, to take breath."""
        for at, source in enumerate(self._sources):
            search = Search(self._root, source)
            before = self._sources[:at]
            for number, candidate in enumerate(search.candidates(), start=1):
                if candidate is None or number % BREATH == 0:
                    yield None
                if candidate is None or any(other.covers(candidate.path) for other in before):
                    continue
                if self._excluded.matches(candidate.path) is not None:
                    self.excluded += 1
                    continue
                yield candidate
            if not search.matched:
                self.unmatched[source.text] = search.hint


#: A chunk is one task: few enough files that progress is seen and little is lost with a worker,
#: enough that the task's own cost does not matter.
CHUNK_FILES: Final = 200
CHUNK_BYTES: Final = 256 << 20
#: Of the names: a task's arguments have to fit into 64 KB, coded.
CHUNK_NAME_BYTES: Final = 36_000


def chunks(candidates: Iterable[Candidate | None]) -> Iterator[list[Candidate] | None]:
    """Cut a walk into chunks of similar cost; None is handed through."""
    chunk: list[Candidate] = []
    size = names = 0
    for candidate in candidates:
        if candidate is None:
            yield None
            continue
        length = len(os.fsencode(candidate.path)) + 16
        if chunk and (
            len(chunk) >= CHUNK_FILES
            or size + candidate.size_bytes > CHUNK_BYTES
            or names + length > CHUNK_NAME_BYTES
        ):
            yield chunk
            chunk, size, names = [], 0, 0
        chunk.append(candidate)
        size += candidate.size_bytes
        names += length
    if chunk:
        yield chunk
