"""What a crash left of a take-in, finished or undone.

Runs before a finder's first batch, and again after a batch that was broken off.

====================================================  ==========================================
found                                                 done
====================================================  ==========================================
intent, nothing in storage, source there              intent deleted: it is taken in again
intent, nothing in storage, source gone, a copy of    the copy gets its place
ours in ``.incoming`` has its content
intent, nothing anywhere                              intent deleted, refusal VANISHED
intent, and storage has the content                   made durable, marked stored
intent, storage has other content there, or what      never touched; intent deleted: the arrival is
cannot be read, and the source is there               refused when it is met
the same, source gone                                 refusal; a copy of its content is kept under
                                                      another name
intent, and storage has our own link or copy, of      taken back out of storage, then as if there
which a power cut took the content                    had been nothing
intent, source is not newer than it was, but has      the copy gets its place, or is kept if that is
lost content                                          taken; without one, refusal: only the sender
                                                      has what was read
stored, source not released and still the same        source removed once the stored copy is read,
                                                      unless somebody has it open for writing
copy of ours in ``.incoming``, of no use              deleted
====================================================  ==========================================
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from enum import Enum, StrEnum, auto
from typing import Final

from django.utils import timezone

from buffer import placing, steps
from buffer.copies import Copies
from buffer.discovery import Arrival
from buffer.duplicates import has_content, release, what_is_wrong
from buffer.models import File, RefusalReason
from buffer.passage import Passage
from buffer.refusals import Refusals
from buffer.refusing import Refused
from buffer.settling import is_open_for_writing

logger = logging.getLogger(__name__)

#: So many sources of stored files are removed at a start, the newest first.
MOST_RELEASED: Final = 1000


class Recovery:
    """Finishes or undoes what an earlier run of this finder left behind.

    Parameters
    ----------
    passage : `Passage`
        From where to where. Only copies with its prefix are touched.
    refusals : `Refusals`
        Where lost arrivals are recorded.
    """

    def __init__(self, passage: Passage, refusals: Refusals) -> None:
        self._passage, self._refusals, self._copies = passage, refusals, Copies(passage)
        self._storage, self._source, self._target = passage.storage, passage.source, passage.target

    def run(self) -> Counter[str]:
        """Bring everything to a state that a cycle can go on from.

        Returns
        -------
        counts : `~collections.Counter`
            How many files met which fate.

        Raises
        ------
        OSError
            The storage area cannot be read or written.
        """
        counts: Counter[str] = Counter()
        ours = File.objects.filter(storage=self._storage, source=str(self._source.root))
        for file in ours.intents().order_by("id"):
            counts[self._intent(file)] += 1
            steps.reached("intent recovered")
        # A crash leaves those of its last batches. The scan meets what else lies in the buffer, as
        # in one whose files cannot be removed: all of them would be read again at each start.
        for file in ours.stored().order_by("-id")[:MOST_RELEASED]:
            counts[self._unreleased(file)] += 1
            steps.reached("source recovered")
        self._copies.clear()
        for kind, number in sorted(counts.items()):
            logger.info("recovery: %d %s", number, kind)
        return counts

    def _intent(self, file: File) -> Fate:
        there = self._look_in_storage(file)
        if there is Content.SAME:
            return Fate.COMPLETED
        if there is Content.OTHER and self._take_back(file):
            there = Content.NONE
        if self._in_buffer(file) is not None:
            torn = self._is_torn(file)
            if torn and there is Content.NONE and self._complete_from_copy(file):
                return Fate.FROM_COPY
            kept = self._copies.keep(file) if torn else ""
            self._undo(file)
            return self._refuse_torn(file, kept) if torn else Fate.UNDONE
        if there is Content.NONE and self._complete_from_copy(file):
            return Fate.FROM_COPY
        kept = self._copies.keep(file)
        self._undo(file)
        text = "it was gone from the buffer when the finder came back after a crash, before it was"
        if there is Content.NONE:
            self._refuse(file, RefusalReason.VANISHED, f"{text} stored")
            return Fate.VANISHED
        text = f"{text} stored, and storage has something else of this name{kept}"
        self._refuse(file, RefusalReason.CONFLICT, text)
        return Fate.LOST

    def _look_in_storage(self, file: File) -> Content:
        """Look for an intent's file in its place; complete it if it is there."""
        try:
            descriptor = self._target.open_file(file.relpath, file.filename)
        except FileNotFoundError:
            return Content.NONE
        except OSError as error:
            logger.warning("cannot look at %s in storage: %s", file, error.strerror)
            return Content.OTHER
        try:
            try:
                same = has_content(descriptor, file)
            except OSError as error:
                logger.warning("cannot read %s in storage: %s", file, error.strerror)
                return Content.OTHER
            if not same:
                return Content.OTHER
            self._complete(file, descriptor)
            return Content.SAME
        finally:
            os.close(descriptor)

    def _take_back(self, file: File) -> bool:
        """Take out of storage what we had placed there, if a power cut took its content.

        Its name may be on the medium before its content is. It is ours if it is the same file as
        the source or as one of our copies, and nobody else's file is touched.
        """
        try:
            directory = self._target.directory(file.relpath)
            placed = self._target.stat(file.relpath, file.filename)
            if self._in_buffer(file) is not None:
                source = self._source.stat(file.relpath, file.filename)
                if not os.path.samestat(placed, source) and not self._copies.include(placed):
                    return False
                os.unlink(file.filename, dir_fd=directory)
            else:
                moved = placed.st_dev == self._source.device
                if not moved or str(placed.st_ino) != _recorded(file)[0]:
                    return False
                source_dir = self._source.directory(file.relpath)
                placing.rename_no_replace(directory, file.filename, source_dir, file.filename)
        except OSError as error:
            logger.warning("%s cannot be taken out of storage: %s", file, error.strerror)
            return False
        steps.reached("taken back")
        return True

    def _is_torn(self, file: File) -> bool:
        """Tell whether a source lost content without anybody having written to it."""
        inode, modified_ns = _recorded(file)
        try:
            descriptor = self._source.open_file(file.relpath, file.filename)
        except OSError:
            return False  # seen when it is taken in
        try:
            state = os.fstat(descriptor)
            if str(state.st_ino) != inode or state.st_mtime_ns > modified_ns:
                return False
            return not has_content(descriptor, file)
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def _refuse_torn(self, file: File, kept: str) -> Fate:
        text = (
            "a crash of this host took content that had been read of it, and nobody has written to"
            f" it since; have it sent again, or touch it to have it taken in as it is{kept}"
        )
        refused = Refused(RefusalReason.CONFLICT, text, checksum=file.checksum)
        self._refusals.add(file.path, self._source.stat(file.relpath, file.filename), refused)
        return Fate.TORN

    def _unreleased(self, file: File) -> Fate:
        """Remove the source of a stored file, if it is still there and the stored copy is good."""
        fate = Fate.WAS_RELEASED
        try:
            arrival = self._in_buffer(file, same=True)
            if arrival is not None:
                if self._is_written(file):
                    # The arrival is met again when its writer has gone.
                    return Fate.NOT_RELEASED
                wrong = what_is_wrong(self._target, file, arrival)
                if wrong:
                    logger.warning("stored file %d (%s) is %s in storage", file.pk, file, wrong)
                    # The arrival is met as a duplicate, and repairs it.
                    return Fate.NOT_RELEASED
                # Reading takes its time: what came meanwhile under its name stays.
                release(self._source, arrival)
                fate = Fate.RELEASED
        except OSError as error:
            logger.warning("the source of %s cannot be released: %s", file, error.strerror)
            return Fate.NOT_RELEASED
        File.objects.filter(pk=file.pk).update(source=None, source_identity=None)
        return fate

    def _is_written(self, file: File) -> bool:
        """Tell whether somebody on this host has the source open for writing."""
        descriptor = self._source.open_file(file.relpath, file.filename)
        try:
            return is_open_for_writing(descriptor) is True
        finally:
            os.close(descriptor)

    def _complete_from_copy(self, file: File) -> bool:
        with self._copies.opened(file) as copy:
            if copy is None:
                return False
            name, descriptor = copy
            directory = self._target.directory(file.relpath, make=True)
            placing.place(descriptor, self._copies.directory, name, directory, file.filename)
            steps.reached("copy placed")
            self._complete(file, descriptor)
            return True

    def _complete(self, file: File, descriptor: int) -> None:
        """Make a file that has its place durable, and say so."""
        pending = self._passage.pending()
        try:
            pending.add(descriptor)
            pending.add_way(self._target, file.relpath)
            pending.sync()
        finally:
            pending.clear()
        File.objects.filter(pk=file.pk).update(stored_on=timezone.now())

    def _undo(self, file: File) -> None:
        File.objects.intents().filter(pk=file.pk).delete()

    def _refuse(self, file: File, reason: RefusalReason, detail: str) -> None:
        self._refusals.add(file.path, None, Refused(reason, detail, checksum=file.checksum))

    def _in_buffer(self, file: File, *, same: bool = False) -> Arrival | None:
        """Give what lies in the source's place in the buffer; with `same`, if it was taken in.

        Device numbers may change when a host starts again, so they are not compared.
        """
        try:
            found = Arrival(
                file.relpath, file.filename, self._source.stat(file.relpath, file.filename)
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        recorded = (file.source_identity or "").partition(":")[2]
        return found if not same or found.identity.partition(":")[2] == recorded else None


def _recorded(file: File) -> tuple[str, int]:
    """Give inode and time of change of a source as they were when it was read."""
    _, inode, _, modified_ns = (file.source_identity or ":0:0:0").split(":")
    return inode, int(modified_ns)


class Content(Enum):
    """What lies in a file's place in storage."""

    NONE = auto()
    SAME = auto()
    # Another file, or something that cannot be read.
    OTHER = auto()


class Fate(StrEnum):
    """What became of what was found."""

    COMPLETED = "found in storage and completed"
    UNDONE = "intents undone, to be taken in again"
    TORN = "intents undone, and what is in the buffer has lost content"
    FROM_COPY = "completed from a copy"
    VANISHED = "vanished from the buffer before they were stored"
    LOST = "gone from the buffer, and their places in storage taken by others"
    WAS_RELEASED = "sources had been released"
    RELEASED = "sources released"
    NOT_RELEASED = "sources kept, because they or the stored copies need a look"
