"""Files in storage as backfill sees them: what they are, whether they changed, their checksum."""

from __future__ import annotations

import os
import stat as stat_module
import time
from typing import Final

from buffer.board import beat, stopping
from buffer.durability import Pending
from buffer.hashing import ALGORITHMS, BLOCK_BYTES
from buffer.io_errors import why
from buffer.models import File, RefusalReason
from buffer.names import why_bad
from buffer.refusing import Refused
from buffer.settling import state_of
from buffer.trees import Tree

#: The kernel writes what was written to the medium within half a minute; older files are there.
_DURABLE_AFTER_S: Final = 600.0
#: A file's ctime is that of its release from the buffer, some time after it was recorded.
_RELEASED_WITHIN_S: Final = 60.0


class Stopped(Exception):
    """The workers were asked to stop; nothing of this chunk was written."""


class Failed(Exception):
    """A file that cannot be recorded, and why."""

    def __init__(self, refused: Refused, state: os.stat_result | None = None) -> None:
        super().__init__(refused.detail)
        self.refused, self.state = refused, state


def look_at(tree: Tree, path: str) -> os.stat_result:
    """Give the state of a file that may be recorded.

    Raises
    ------
    Failed
        It may not be.
    """
    relpath, _, filename = path.rpartition("/")
    try:
        state = tree.stat(relpath, filename)
    except OSError as error:
        raise Failed(_why(error)) from None
    bad = why_bad(relpath, filename)
    if bad is not None:
        raise Failed(Refused(RefusalReason.BAD_NAME, bad), state)
    if stat_module.S_ISDIR(state.st_mode):
        detail = "this directory cannot be looked through; check owner and permissions"
        raise Failed(Refused(RefusalReason.UNREADABLE, detail), state)
    if not stat_module.S_ISREG(state.st_mode):
        detail = "only regular files are recorded, no links, FIFOs, sockets or devices"
        raise Failed(Refused(RefusalReason.NOT_REGULAR, detail), state)
    return state


def check_tracked(tree: Tree, file: File) -> None:
    """Check that a tracked file is what was recorded.

    It is read again only if it was changed since: a backfill that is run again must not read
    millions of files twice.

    Raises
    ------
    Failed
        It is not.
    """
    if file.stored_on is None:
        # A finder is taking it in at this moment.
        return
    state = look_at(tree, file.path)
    if state.st_size != file.size_bytes:
        sizes = f"it has {state.st_size} bytes, and {file.size_bytes} were recorded"
        raise Failed(_changed(file, sizes), state)
    margin_s = 0.0 if file.seen_on is None else _RELEASED_WITHIN_S
    if state.st_ctime < file.stored_on.timestamp() + margin_s:
        return
    checksum, state = hash_file(tree, file.path, file.checksum_algorithm)
    if checksum != file.checksum:
        raise Failed(_changed(file, "its content is not what was recorded", checksum), state)


def hash_file(
    tree: Tree, path: str, algorithm: str, pending: Pending | None = None
) -> tuple[str, os.stat_result]:
    """Read a file and give its checksum and state.

    Raises
    ------
    Failed
        It cannot be read, or is being written.
    Stopped
        The workers are to stop: nobody waits for the end of a huge file.
    """
    relpath, _, filename = path.rpartition("/")
    try:
        descriptor = tree.open_file(relpath, filename)
    except OSError as error:
        raise Failed(_why(error), _state(tree, relpath, filename)) from None
    try:
        before = os.fstat(descriptor)
        checksum = _checksum(descriptor, algorithm)
        after = os.fstat(descriptor)
        if not stat_module.S_ISREG(after.st_mode) or state_of(before) != state_of(after):
            detail = (
                "it changed while it was read, so somebody still writes it; run backfill again"
                " when it is complete"
            )
            raise Failed(Refused(RefusalReason.UNREADABLE, detail), after)
        if pending is not None and time.time() - after.st_ctime < _DURABLE_AFTER_S:
            pending.add(descriptor)
    except OSError as error:
        raise Failed(_why(error), _state(tree, relpath, filename)) from None
    finally:
        os.close(descriptor)
    return checksum, after


def _checksum(descriptor: int, algorithm: str) -> str:
    digest = ALGORITHMS[algorithm]()
    offset = 0
    while True:
        if stopping():
            raise Stopped
        beat()
        block = os.pread(descriptor, BLOCK_BYTES, offset)
        if not block:
            return digest.hexdigest()
        digest.update(block)
        offset += len(block)


def _state(tree: Tree, relpath: str, filename: str) -> os.stat_result | None:
    try:
        return tree.stat(relpath, filename)
    except OSError:
        return None


def _why(error: OSError) -> Refused:
    if isinstance(error, FileNotFoundError):
        return Refused(RefusalReason.VANISHED, "it was in storage and is gone")
    return why(error)


def _changed(file: File, text: str, checksum: str = "") -> Refused:
    return Refused(
        RefusalReason.CHANGED_IN_STORAGE,
        f"{text} as stored file {file.pk}; the record is kept as it is",
        checksum=checksum,
        file=file,
    )
