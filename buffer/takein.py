"""Taking files in: from an arrival in the buffer to a stored file, whatever happens between.

The order of a batch is the promise. Bytes are hashed (and copied, if the storage is on another
file system), the *intent* is committed, the file gets its place by a way that cannot overwrite,
everything is made durable, *stored* is committed, and only then is the source released. Here it is
decided what each arrival is; `buffer.opening` reads, `buffer.storing` stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from django.db import transaction

from buffer import dialect, placing, recording, steps
from buffer.candidates import Candidates, look_up
from buffer.collisions import Collisions
from buffer.discovery import Arrival
from buffer.duplicates import Duplicates
from buffer.io_errors import StorageError, errors_as
from buffer.ledger import Ledger
from buffer.models import File, RefusalReason
from buffer.names import escape
from buffer.opening import Opening
from buffer.passage import Passage
from buffer.reading import Reading
from buffer.refusing import Refused
from buffer.storing import Storing

#: A batch takes seconds; its finder finishes or undoes it at its next start.
_FORGOTTEN_AFTER: Final = timedelta(minutes=10)


class TakeIn:
    """Takes batches of arrivals from one source into one storage area.

    Parameters
    ----------
    passage : `Passage`
        From where to where.
    ledger : `Ledger`
        Where it is noted what became of each arrival.
    duplicates : `Duplicates`
        What to do with arrivals that are stored already.
    collisions : `Collisions`, optional
        What to do with arrivals whose conflict a person has decided.
    """

    def __init__(
        self,
        passage: Passage,
        ledger: Ledger,
        duplicates: Duplicates,
        collisions: Collisions | None = None,
    ) -> None:
        self._passage, self._ledger, self._duplicates = passage, ledger, duplicates
        self._collisions = collisions
        self._opening = Opening(passage, ledger)
        self._storing = Storing(passage, ledger)

    def batch(self, arrivals: Sequence[Arrival]) -> set[str]:
        """Take in what can be taken in of some arrivals; record why for the others.

        Returns
        -------
        accounted : `set` [`str`]
            Paths of the arrivals that are stored, duplicate or refused. The others are not settled
            yet.

        Raises
        ------
        CannotStore
            The storage takes no files. Those that it does not take stay where they are.
        django.db.DatabaseError
            The database does not answer. `buffer.recovery` must run before the next batch.
        """
        self._passage.source.forget()
        self._passage.target.forget()
        self._ledger.begin()
        good = self._opening.sift(arrivals)
        if good:
            candidates = look_up(self._passage.storage, good)
            readings = self._opening.read(good, candidates)
            try:
                fresh = self._sort_out(readings, candidates)
                if self._passage.move:
                    self._storing.store(fresh)
                else:
                    self._record(fresh)
            finally:
                for reading in readings:
                    reading.close()
        if self._ledger.blocked is not None:
            raise self._ledger.blocked
        return self._ledger.accounted

    def flush(self) -> None:
        """Commit which sources are gone; otherwise the next batch does it."""
        self._storing.flush()

    def _sort_out(self, readings: Sequence[Reading], candidates: Candidates) -> list[Reading]:
        """Settle duplicates, refuse conflicts; give what is new."""
        fresh: list[Reading] = []
        conflicts: list[tuple[Arrival, Refused]] = []
        reserved: list[tuple[Arrival, File]] = []
        contents: set[tuple[str, str]] = set()
        for reading in readings:
            same, taken = candidates.same_as(reading), candidates.in_place_of(reading.arrival)
            content = (reading.arrival.filename, reading.checksums[self._passage.algorithm])
            if same is not None and same == taken and not self._passage.move:
                # Recorded in place before, as it is.
                self._ledger.done(reading.arrival, "known")
            elif same is not None:
                self._settle(reading, same)
            elif taken is not None and taken.stored_on is None:
                # Somebody else is taking in a file of this place: see what it is when it is done.
                reserved.append((reading.arrival, taken))
            elif self._collisions is not None and self._collisions.settle(reading, taken):
                continue
            elif taken is not None:
                conflicts.append((reading.arrival, self._conflict(reading, taken)))
            elif content not in contents:
                # A twin in this batch will be this one's duplicate in the next.
                contents.add(content)
                fresh.append(reading)
        if reserved:
            conflicts += _never_finished(reserved)
        self._ledger.refuse_all(conflicts)
        return fresh

    def _settle(self, reading: Reading, stored: File) -> None:
        """Deal with an arrival that is stored already."""
        arrival = reading.arrival
        try:
            if self._is_leftover(arrival, stored):
                how = self._duplicates.delete(reading, stored)
                self._storing.released(stored)
                self._ledger.done(arrival, "released", how)
                return
            # In storage itself nothing is ever touched.
            how = self._duplicates.settle(reading, stored) if self._passage.move else ""
        except OSError as error:
            self._ledger.failed(arrival, error)
            return
        except placing.Swapped:
            self._ledger.swapped(arrival)
            return
        self._ledger.refuse(
            arrival,
            Refused(
                RefusalReason.DUPLICATE,
                f"same name and content as stored file {stored.pk} ({stored})",
                checksum=reading.checksums[self._passage.algorithm],
                file=stored,
                resolved_how=how,
            ),
            kind="duplicates",
        )

    def _is_leftover(self, arrival: Arrival, stored: File) -> bool:
        """Tell whether this is the very file that was stored, and could not be removed then."""
        source = str(self._passage.source.root)
        return stored.source == source and stored.source_identity == arrival.identity

    def _conflict(self, reading: Reading, taken: File) -> Refused:
        moved = self._passage.move
        return Refused(
            RefusalReason.CONFLICT if moved else RefusalReason.CHANGED_IN_STORAGE,
            f"same name as stored file {taken.pk}, other content; the stored file is kept as it is"
            if moved
            else f"its content is not what is recorded as file {taken.pk}",
            checksum=reading.checksums[self._passage.algorithm],
            file=taken,
        )

    def _record(self, readings: Sequence[Reading]) -> None:
        """Record files that lie in storage already."""
        if not readings:
            return
        pending = self._passage.pending()
        try:
            with errors_as(StorageError):
                for reading in readings:
                    pending.add(reading.descriptor)
                    pending.add_way(self._passage.target, reading.arrival.relpath)
                pending.sync()
        except OSError as error:
            for reading in readings:
                self._ledger.failed(reading.arrival, error)
            return
        finally:
            pending.clear()
        steps.reached("durable in place")
        with transaction.atomic():
            rows = recording.insert(self._passage, readings, stored=True)
            steps.reached("rows in place inserted")
        steps.reached("recorded in place")
        for reading, _ in rows:
            self._ledger.done(reading.arrival, "stored")


def _never_finished(reserved: Sequence[tuple[Arrival, File]]) -> list[tuple[Arrival, Refused]]:
    """Refuse the arrivals whose places were reserved so long ago that nobody is at it any more.

    That is known by the clock of another host, perhaps a wrong one, so it must pass by itself.
    """
    forgotten_before = dialect.clock() - _FORGOTTEN_AFTER
    return [
        (
            arrival,
            Refused(
                RefusalReason.UNREADABLE,
                f"a take-in of this place from {escape(intent.source or '?')}, begun at"
                f" {intent.added_on:%Y-%m-%d %H:%M:%S} UTC, was never finished: start the finder of"
                " that source, which finishes or undoes it (if the buffer has another path by now,"
                " start it once with the old one, by a symbolic link)",
            ),
        )
        for arrival, intent in reserved
        if intent.added_on < forgotten_before
    ]
