"""Arrivals that collide with a stored file, once a person has decided what becomes of them.

The decision is a row; the finder carries it out when it meets the arrival again, having read it.
Nothing is overwritten and nothing deleted:

============  ======================================================================================
KEEP_STORED   The arrival is set aside in ``finder.duplicates``, under a name that is free there.
KEEP_BOTH     The arrival is renamed in the buffer, and so is a new arrival like any other.
============  ======================================================================================

Where to is committed before anything moves. So whoever finds the decision after a crash sees what
was done of it: goes on if the arrival is still there, and else looks for it at that place.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from buffer import placing, steps
from buffer.discovery import Arrival
from buffer.duplicates import Duplicates, numbered, release
from buffer.hashing import checksums
from buffer.io_errors import AsideError, ReleaseError, errors_as
from buffer.ledger import Ledger
from buffer.models import Choice, Decision, File, Refusal
from buffer.names import escape, is_temporary_name, why_bad
from buffer.passage import Passage
from buffer.reading import Reading
from buffer.trees import Tree

logger = logging.getLogger(__name__)


class _Void(Exception):
    """The decision cannot be carried out; somebody has to decide again."""


class Collisions:
    """Carries out the decisions about one finder's conflicts.

    Parameters
    ----------
    passage : `Passage`
        From where to where.
    ledger : `Ledger`
        Where it is noted what became of each arrival; knows the standing decisions.
    duplicates : `Duplicates`
        Where arrivals are set aside.
    is_excluded : callable
        Tells of a directory and a name whether the finder would pass it over.
    """

    def __init__(
        self,
        passage: Passage,
        ledger: Ledger,
        duplicates: Duplicates,
        is_excluded: Callable[[str, str], bool],
    ) -> None:
        self._passage, self._ledger, self._duplicates = passage, ledger, duplicates
        self._is_excluded = is_excluded

    def settle(self, reading: Reading, taken: File | None) -> bool:
        """Do what was decided about an arrival.

        Parameters
        ----------
        reading : `Reading`
            The arrival, read.
        taken : `File` or `None`
            The stored file in its place.

        Returns
        -------
        settled : `bool`
            False if nothing was decided, or it is void: the arrival is to be dealt with as any.
        """
        arrival = reading.arrival
        decision = self._ledger.refusals.decision(arrival.path)
        if decision is None:
            return False
        try:
            self._check(decision, reading, taken)
            if decision.choice == Choice.KEEP_BOTH:
                how = self._rename(decision, reading)
            else:
                how = self._set_aside(decision, reading)
        except _Void as void:
            self._void(decision, str(void))
            return False
        except OSError as error:
            self._ledger.failed(arrival, error)
        except placing.Swapped:
            self._ledger.swapped(arrival)
        else:
            self._done(decision, how)
            self._ledger.done(arrival, "decided", how)
        return True

    def finish(self) -> None:
        """Close the decisions whose arrivals are no longer in the buffer under their names."""
        for decision in self._ledger.refusals.decisions.left_over():
            if decision.target and (how := self._found(decision)) is not None:
                if how:
                    self._done(decision, how)
                continue
            refusal = decision.refusal
            self._void(decision, f"before it could be carried out: {refusal.resolved_how}")

    def _check(self, decision: Decision, reading: Reading, taken: File | None) -> None:
        """Make sure that everything is still as it was decided upon."""
        if reading.checksums.get(self._passage.algorithm) != decision.checksum:
            raise _Void("the arrival has other content than when it was decided")
        if decision.file_id != (None if taken is None else taken.pk):
            raise _Void("storage has another file of this name than when it was decided")
        if taken is None:
            try:
                self._passage.target.stat(reading.arrival.relpath, reading.arrival.filename)
            except OSError:
                raise _Void("storage has no file of this name any more") from None

    # Keep both

    def _rename(self, decision: Decision, reading: Reading) -> str:
        arrival, name = reading.arrival, decision.new_name
        why = why_bad(arrival.relpath, name)
        if why is not None or "/" in name:
            raise _Void(f"{escape(name)} cannot be a name: {why or 'it has a slash'}")
        if is_temporary_name(name) or self._is_excluded(arrival.relpath, name):
            raise _Void(f"the finder passes over files named {escape(name)}")
        if File.objects.filter(
            storage=self._passage.storage, relpath=arrival.relpath, filename=name
        ).exists():
            raise _Void(f"storage has a file named {escape(name)}, too")
        self._intend(decision, _below(arrival, name))
        with errors_as(ReleaseError):
            directory = self._passage.source.directory(arrival.relpath)
            if not placing.is_same_file(os.fstat(reading.descriptor), directory, arrival.filename):
                raise placing.Swapped(arrival.filename)
            try:
                placing.rename_no_replace(directory, arrival.filename, directory, name)
            except FileExistsError:
                raise _Void(f"the buffer has a file named {escape(name)}, too") from None
            steps.reached("renamed in the buffer")
            if self._passage.fsync:
                os.fsync(directory)
        return _kept_both(decision.target)

    # Keep stored

    def _set_aside(self, decision: Decision, reading: Reading) -> str:
        arrival, aside = reading.arrival, self._duplicates.aside
        if aside is None:
            raise _Void("finder.duplicates is not configured, where arrivals are set aside")
        with (
            errors_as(AsideError),
            Tree(aside) as tree,
            tree.held(arrival.relpath) as directory,
        ):
            # An earlier try may have come so far.
            if not (decision.target and self._has(tree, decision.target, decision.checksum)):
                self._place_aside(decision, reading, directory)
            steps.reached("set aside")
            pending = self._passage.pending()
            descriptor = tree.open_file(*_parts(decision.target))
            try:
                pending.add_way(tree, arrival.relpath)
                pending.add(descriptor)
                pending.sync()
            finally:
                os.close(descriptor)
                pending.clear()
            if not reading.unchanged:
                raise placing.Swapped(arrival.filename)
            release(self._passage.source, arrival)
        return _kept_stored(aside, decision)

    def _place_aside(self, decision: Decision, reading: Reading, directory: int) -> None:
        arrival = reading.arrival
        for number in count():
            name = numbered(arrival.filename, number)
            try:
                os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                self._intend(decision, _below(arrival, name))
                try:
                    self._duplicates.place_aside(reading, directory, name)
                except FileExistsError:
                    continue
                return

    # What a crash left

    def _found(self, decision: Decision) -> str | None:
        """Look where an arrival was to go: how it was done, '' if that goes on, None if not."""
        target = decision.target
        if decision.choice == Choice.KEEP_STORED:
            aside = self._duplicates.aside
            if aside is None:
                return None
            try:
                with Tree(aside) as tree:
                    there = self._has(tree, target, decision.checksum)
            except OSError:
                return ""
            return _kept_stored(aside, decision) if there else None
        relpath, name = _parts(target)
        stored = File.objects.stored().filter(
            storage=self._passage.storage, relpath=relpath, filename=name
        )
        if stored.filter(checksum=decision.checksum).exists():
            return _kept_both(target)
        try:
            self._passage.source.stat(relpath, name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return ""

    def _has(self, tree: Tree, path: str, checksum: str) -> bool:
        try:
            descriptor = tree.open_file(*_parts(path))
        except OSError:
            return False
        try:
            algorithm = self._passage.algorithm
            size = os.fstat(descriptor).st_size
            return checksums(descriptor, [algorithm], size=size)[algorithm] == checksum
        finally:
            os.close(descriptor)

    # Rows

    def _intend(self, decision: Decision, target: str) -> None:
        decision.target = target
        if not Decision.objects.standing().filter(pk=decision.pk).update(target=target):
            raise _Void("it was taken back just now")
        steps.reached("place decided")

    def _done(self, decision: Decision, how: str) -> None:
        now = timezone.now()
        with transaction.atomic():
            Decision.objects.standing().filter(pk=decision.pk).update(done_on=now, outcome=how)
            # It may have been closed as gone, after a crash.
            Refusal.objects.filter(pk=decision.refusal_id).update(
                resolved_on=now, resolved_how=how, resolved_by=decision.user
            )
        steps.reached("decision recorded")
        self._ledger.refusals.decisions.forget(decision)
        logger.info("%s: %s, as %s decided", decision.refusal.path, how, escape(decision.user))

    def _void(self, decision: Decision, why: str) -> None:
        Decision.objects.standing().filter(pk=decision.pk).update(
            done_on=timezone.now(), void=True, outcome=f"void: {why}"
        )
        self._ledger.refusals.decisions.forget(decision)
        logger.warning(
            "%s: the decision %s of %s is void: %s",
            decision.refusal.path,
            decision.choice,
            escape(decision.user),
            why,
        )


def _kept_stored(aside: Path, decision: Decision) -> str:
    return f"the stored file is kept; the arrival is set aside as {escape(aside / decision.target)}"


def _kept_both(path: str) -> str:
    return f"both are kept; the arrival is taken in as {escape(path)}"


def _below(arrival: Arrival, name: str) -> str:
    return f"{arrival.relpath}/{name}" if arrival.relpath else name


def _parts(path: str) -> tuple[str, str]:
    relpath, _, name = path.rpartition("/")
    return relpath, name
