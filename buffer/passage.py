"""From which buffer into which storage area files go, and by which rules."""

from __future__ import annotations

from dataclasses import dataclass

from buffer import storages
from buffer.durability import Pending
from buffer.io_errors import StorageError, errors_as
from buffer.models import Storage
from buffer.trees import Tree


@dataclass(frozen=True, slots=True)
class Passage:
    """The way of one finder's files, for as long as its directories are open.

    Parameters
    ----------
    storage : `Storage`
        The storage area's row.
    source, target : `Tree`
        The buffer and the storage area. The same directory when files are recorded in place.
    move : `bool`
        Standard action Move; otherwise files lie in storage already and are recorded in place.
    algorithm : `str`
        The checksum to record.
    fsync : `bool`
        Make durable what is done.
    staging : `str`
        Prefix of this finder's own names in the ``.incoming`` directory. Nobody else makes such
        names, since the finder holds the lock on its source.
    """

    storage: Storage
    source: Tree
    target: Tree
    move: bool
    algorithm: str
    fsync: bool
    staging: str

    def pending(self) -> Pending:
        """Begin a list of what must be made durable."""
        return Pending(self.fsync)

    def incoming(self) -> int:
        """Give the descriptor of the directory for copies that are not complete yet."""
        with errors_as(StorageError):
            return storages.incoming(self.target)
