"""Looking at one stored file now: is it on disk what its row says? An audit of one file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

from buffer import storages
from buffer.audit_findings import Trouble, proposal
from buffer.audit_look import StorageFailed, look
from buffer.audit_marks import Marks
from buffer.components import worker_name
from buffer.models import File, FindingKind
from buffer.names import escape
from buffer.problems import ConfigError
from buffer.storages import NotMounted

#: Who asked waits for the answer: a file that takes longer to read is a matter for an audit.
LONGEST_S: Final = 20.0


class Verdict(Enum):
    """What a look at a file came to."""

    GOOD = auto()
    BAD = auto()
    # Nothing is known: not mounted here, failing, or too large to be read meanwhile.
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Look:
    """A verdict, and what to tell a person."""

    verdict: Verdict
    text: str


class _TooLong(Exception):
    """The file takes longer to read than anybody waits."""


def verify(file: File, *, user: str, longest_s: float = LONGEST_S) -> Look:
    """Read a stored file and compare size and checksum with its row; mark it, or clear its mark.

    Parameters
    ----------
    file : `File`
        Which; its storage area is looked for where its row says that it is mounted.
    user : `str`
        Who wants to know, for the mark.
    longest_s : `float`, optional
        Give up after so many seconds.
    """
    root, end = Path(file.storage.root), time.monotonic() + longest_s

    def in_time(_: bytes) -> None:
        if time.monotonic() > end:
            raise _TooLong

    try:
        trouble = _look(file, root, in_time)
        if trouble is not None:
            # By the row as it is now, in directories opened afresh: a finder may be repairing it.
            file.refresh_from_db()
            trouble = _look(file, root, in_time)
    except _TooLong:
        text = f"It takes longer than {longest_s:g} s to read: use manage.py audit --checksums."
        return Look(Verdict.UNKNOWN, text)
    except (NotMounted, ConfigError, StorageFailed, OSError) as error:
        why = escape(error.strerror or "") if isinstance(error, OSError) else str(error)
        text = (
            f"Nothing is known: the storage area is not mounted on this host (that of the web"
            f" server), or fails: {why}. Use manage.py audit where it is mounted."
        )
        return Look(Verdict.UNKNOWN, text)
    marks = Marks(enabled=True, by=f"{user} on {worker_name()}")
    marked = marks.standing([file])
    if trouble is not None:
        marks.settle(marked, {file.pk: trouble}, [])
        todo = proposal(trouble.kind, escape(file.path_below(root)))
        return Look(Verdict.BAD, f"{trouble.kind}: {trouble.detail}. To do: {todo}.")
    mark = marked.get(file.pk)
    if mark is not None and mark.kind == FindingKind.DUPLICATE:
        # Its content does not say whether another row stands for it, too.
        return Look(Verdict.GOOD, "It is as recorded; that it has two rows, an audit found.")
    marks.settle(marked, {}, [file.pk])
    cleared = " Its mark is cleared." if mark is not None else ""
    return Look(Verdict.GOOD, f"It was read, and is as recorded.{cleared}")


def _look(file: File, root: Path, sink: object) -> Trouble | None:
    assert callable(sink)
    with storages.open_tree(file.storage, root) as tree:
        return look(tree, file, sink)
