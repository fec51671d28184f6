"""Directory trees, reached only through descriptors.

A path is looked up again at each use, and somebody may put a symbolic link into it between two
uses. Here every directory is opened once, part by part, and no link is followed; what happens to
the names afterwards cannot lead us out of the tree, nor below a mount point that came loose.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from buffer import steps

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: O_NONBLOCK: opening a FIFO must not wait for somebody to write.
_REGULAR: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_KEPT_OPEN: Final = 64


class Tree:
    """The directories below one root.

    Parameters
    ----------
    root : `pathlib.Path`
        The top; the only path that may itself be a symbolic link.

    Raises
    ------
    OSError
        The root cannot be opened.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.device = os.fstat(self.descriptor).st_dev
        self._open: OrderedDict[str, int] = OrderedDict()
        self._lasting: dict[str, int] = {}

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all descriptors."""
        self.forget()
        while self._lasting:
            os.close(self._lasting.popitem()[1])
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def forget(self) -> None:
        """Look directories up afresh from now on: others may rename and remove them."""
        while self._open:
            os.close(self._open.popitem()[1])

    def directory(self, relpath: str, *, make: bool = False) -> int:
        """Give the descriptor of a directory, which stays ours to close.

        It is good until some 60 other directories were asked for; see `lasting`.

        Parameters
        ----------
        relpath : `str`
            Path below the root, '' for the root.
        make : `bool`, optional
            Make the directories that are missing.

        Raises
        ------
        OSError
            A part is missing, is no directory or is a symbolic link.
        """
        known = relpath
        while known and known not in self._open:
            known = known.rpartition("/")[0]
        descriptor = self.descriptor
        if known:
            descriptor = self._open[known]
            self._open.move_to_end(known)
        rest = relpath[len(known) :].strip("/")
        for name in rest.split("/") if rest else ():
            descriptor = _open_directory(name, descriptor, make=make)
            known = f"{known}/{name}" if known else name
            self._open[known] = descriptor
            if len(self._open) > _KEPT_OPEN:
                os.close(self._open.popitem(last=False)[1])
        return descriptor

    @contextlib.contextmanager
    def held(self, relpath: str) -> Iterator[int]:
        """Give the descriptor of a directory, made if it is missing, for the length of a block."""
        descriptor = os.dup(self.directory(relpath, make=True))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def lasting(self, relpath: str) -> int:
        """Give the descriptor of a directory, made if it is missing, until the tree is closed."""
        found = self._lasting.get(relpath)
        if found is None:
            found = self._lasting[relpath] = os.dup(self.directory(relpath, make=True))
        return found

    def open_file(self, relpath: str, filename: str) -> int:
        """Open a file for reading, without following links and without ever blocking."""
        return os.open(filename, _REGULAR, dir_fd=self.directory(relpath))

    def stat(self, relpath: str, filename: str) -> os.stat_result:
        """Give the file's own state, not that of what a link points to."""
        return os.stat(filename, dir_fd=self.directory(relpath), follow_symlinks=False)


def _open_directory(name: str, above: int, *, make: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=above)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o777, dir_fd=above)
    steps.reached("directory made")
    return os.open(name, _DIRECTORY, dir_fd=above)
