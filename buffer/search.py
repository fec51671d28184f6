"""What a finder looks at in a cycle: here, everything that lies in the buffer.

Others look at what the kernel tells of (`buffer.watch_search`) or rsync's logs name
(`buffer.log_search`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from buffer.discovery import Arrival, Known, OnError, Skip, scan
from buffer.inotify import Notices
from buffer.trees import Tree


class Search:
    """A way to find arrivals. What is no matter of a way, it leaves as it is here.

    Attributes
    ----------
    of_buffer : `bool`
        It names what lies in the buffer: that has to settle, and what a look at everything does
        not name is gone.
    whole : `bool`
        The present look is at everything.
    updated : `set` [`str`]
        Paths whose files were written over, so that what is known of them is out of date.
    """

    of_buffer = True
    whole = True
    updated: Set[str] = frozenset()

    @property
    def wakes(self) -> Notices | None:
        """What becomes readable when something arrives; None if nothing does."""
        return None

    def pause_s(self, pause: float) -> float:
        """Give the seconds until there is something to look at, if `wakes` stays quiet.

        Parameters
        ----------
        pause : `float`
            What the configuration says.
        """
        return pause

    def begin(self, source: Tree, storage: Tree) -> None:
        """Note how the buffer and the storage area are open in this cycle."""

    def arrivals(self) -> Iterator[Arrival]:
        """Name what may be worth looking at now, in the order in which to take it in.

        May be read on in later cycles, until it ends or `look_at_everything` is called.
        """
        raise NotImplementedError

    def accounted(self, arrivals: Iterable[Arrival]) -> None:
        """Note arrivals that need not be named again unless they change."""

    def look_again(self, paths: Iterable[str]) -> None:
        """Note what has to be named in the next look, too."""

    def look_at_everything(self) -> None:
        """Make the next look one at everything, whatever the present one has not come to."""

    def finish(self, waiting: int) -> int:
        """Note that a look is over, and all that it named was dealt with.

        Parameters
        ----------
        waiting : `int`
            How many of those that it named are not settled yet.

        Returns
        -------
        waiting : `int`
            How many wait in all.
        """
        return waiting


class Walk(Search):
    """Looks through the whole buffer each time: ``search.method: scan``.

    Parameters
    ----------
    root : `pathlib.Path`
        The buffer.
    skip, onerror, known : callable
        As for `buffer.discovery.scan`.
    """

    def __init__(
        self, root: Path, skip: Skip | None, onerror: OnError, *, known: Known | None = None
    ) -> None:
        self._root, self._skip, self._known, self._onerror = root, skip, known, onerror

    def arrivals(self) -> Iterator[Arrival]:
        return scan(self._root, skip=self._skip, known=self._known, onerror=self._onerror)
