"""An arrival and the stored file it collides with, side by side; and decisions about them.

Nothing here touches a file. What can be read of both on this host is shown, and no more; a
decision is a row that the finder carries out (`buffer.collisions`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from django.db import IntegrityError, transaction
from django.utils import timezone

from buffer import storages
from buffer.fits_headers import Difference, Header, differences, read_header
from buffer.models import Choice, Decision, File, Refusal, RefusalReason
from buffer.names import escape, is_temporary_name, why_bad
from buffer.problems import ConfigError
from buffer.shown import unescape
from buffer.storages import NotMounted
from buffer.trees import Tree

_DIFFERENCES: Final = 200


class CannotDecide(Exception):
    """What was asked for cannot be decided; the text says why."""


@dataclass(frozen=True, slots=True)
class Headers:
    """FITS headers of both files.

    Parameters
    ----------
    differing : `list` [`Difference`]
        The arrival's value at the left, the stored file's at the right.
    more : `int`
        How many differences are left out.
    same : `int`
        Keywords whose values are the same.
    why_not : `str`
        Why there is nothing to compare.
    """

    differing: list[Difference] = field(default_factory=list)
    more: int = 0
    same: int = 0
    why_not: str = ""


def is_open_conflict(refusal: Refusal) -> bool:
    """Tell whether there is something to decide about a refusal."""
    return (
        refusal.reason == RefusalReason.CONFLICT
        and refusal.resolved_on is None
        and bool(refusal.checksum)
    )


def standing(refusal: Refusal) -> Decision | None:
    """Give the decision that waits for the finder."""
    return Decision.objects.standing().filter(refusal=refusal).first()


def decide(
    refusal: Refusal, choice: Choice, *, user: str, note: str, new_name: str = ""
) -> Decision:
    """Record a decision.

    Parameters
    ----------
    refusal : `Refusal`
        The conflict, as it is now.
    choice : `Choice`
        What is to become of the arrival.
    user, note : `str`
        Who decides, and why.
    new_name : `str`, optional
        The arrival's name from now on, with ``KEEP_BOTH``.

    Raises
    ------
    CannotDecide
        There is nothing to decide, somebody has decided already, or the name cannot be used.
    """
    if not is_open_conflict(refusal):
        raise CannotDecide("there is no conflict any more")
    if choice == Choice.KEEP_BOTH:
        _check_name(refusal, new_name)
    now = timezone.now()
    later = choice == Choice.LATER
    try:
        with transaction.atomic():
            return Decision.objects.create(
                refusal=refusal,
                choice=choice,
                checksum=refusal.checksum,
                file=refusal.file,
                new_name=new_name if choice == Choice.KEEP_BOTH else "",
                user=user,
                note=note,
                decided_on=now,
                done_on=now if later else None,
                outcome="nothing was done" if later else "",
            )
    except IntegrityError:
        raise CannotDecide("somebody has decided already; the finder is about to do it") from None


def take_back(decision: Decision, *, user: str) -> bool:
    """Take a decision back, as long as the finder has not begun with it."""
    untouched = Decision.objects.standing().filter(pk=decision.pk, target="")
    return bool(
        untouched.update(done_on=timezone.now(), void=True, outcome=f"taken back by {escape(user)}")
    )


def compare_headers(refusal: Refusal) -> Headers:
    """Read the FITS headers of an arrival and of its stored file, if this host has both."""
    path = unescape(refusal.path)
    try:
        with Tree(Path(refusal.source)) as tree:
            arrival = _header(tree, path, refusal)
    except OSError as error:
        text = f"the arrival cannot be read on this host, that of the web server ({error.strerror})"
        return Headers(why_not=text)
    try:
        with storages.open_tree(refusal.storage, Path(refusal.storage.root)) as tree:
            stored = _header(tree, refusal.file.path if refusal.file else path, None)
    except (OSError, NotMounted, ConfigError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return Headers(why_not=f"the stored file cannot be read on this host: {why}")
    if arrival is None or stored is None:
        return Headers(why_not="they are not both FITS files")
    found = differences(arrival, stored)
    return Headers(
        found[:_DIFFERENCES],
        max(0, len(found) - _DIFFERENCES),
        len({*arrival, *stored}) - len(found),
    )


def _header(tree: Tree, path: str, refusal: Refusal | None) -> Header | None:
    relpath, _, name = path.rpartition("/")
    descriptor = tree.open_file(relpath, name)
    try:
        state = os.fstat(descriptor)
        if refusal is not None and refusal.size_bytes != state.st_size:
            raise OSError(0, "it has changed since the finder looked at it")
        return read_header(descriptor)
    finally:
        os.close(descriptor)


def _check_name(refusal: Refusal, name: str) -> None:
    relpath, _, old = unescape(refusal.path).rpartition("/")
    why = why_bad(relpath, name)
    if why is not None:
        raise CannotDecide(f"{escape(name)} cannot be its new name: {why}")
    if is_temporary_name(name):
        raise CannotDecide(
            f"the finder passes over files named {escape(name)}: they look unfinished"
        )
    there = File.objects.filter(storage=refusal.storage, relpath=relpath, filename=name)
    if name == old or there.exists():
        raise CannotDecide(f"storage has a file named {escape(name)}, too")
