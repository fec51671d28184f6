"""Pauses by a person: a finder or an ingester is told to do nothing until somebody resumes it.

Not to be taken for the pause that an ingester makes by itself while its target does not answer
(`ingest.pauses`). A pause belongs to the finder or the ingester, not to a run of it: it outlasts a
restart. Workers look before each batch; what is begun is finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from django.db import IntegrityError, transaction

from buffer import dialect, outages, shown
from buffer.models import Component, ComponentKind, OperatorPause, OperatorPauseQuerySet
from buffer.names import escape

NOTE_CHARS: Final = 2000
_USER_CHARS: Final = 150
#: How often a worker that has nothing to do asks; seconds.
LOOK_EVERY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Pausable:
    """A finder or an ingester.

    Parameters
    ----------
    kind : `ComponentKind`
        FINDER or INGESTER.
    subject : `str`
        The finder's source directory, or the ingester's name.
    host : `str`, optional
        The finder's host; an ingester is paused on all hosts.
    """

    kind: ComponentKind
    subject: str
    host: str = ""

    @classmethod
    def of(cls, row: Component) -> Pausable | None:
        """Give what a run is one of; None for what cannot be paused."""
        if row.kind == ComponentKind.FINDER:
            return cls(ComponentKind.FINDER, row.subject, row.host)
        if row.kind == ComponentKind.INGESTER:
            return cls(ComponentKind.INGESTER, row.subject)
        return None

    def __str__(self) -> str:
        where = f" on {self.host}" if self.host else ""
        return f"{self.kind} {escape(self.subject)}{where}"

    def pauses(self) -> OperatorPauseQuerySet:
        """Give its pauses, past ones too."""
        return OperatorPause.objects.filter(kind=self.kind, subject=self.subject, host=self.host)


def pause(what: Pausable, *, user: str, note: str = "") -> bool:
    """Have it do nothing from now on; tell whether it was not paused already.

    Parameters
    ----------
    what : `Pausable`
        What to pause.
    user, note : `str`
        Who asks, and why; for the history and for whoever wonders.
    """
    try:
        with transaction.atomic():
            OperatorPause.objects.create(
                kind=what.kind,
                subject=what.subject,
                host=what.host,
                paused_on=dialect.clock(),
                paused_by=user[:_USER_CHARS],
                note=note.strip()[:NOTE_CHARS],
            )
    except IntegrityError:
        return False
    return True


def resume(what: Pausable, *, user: str, note: str = "") -> bool:
    """Have it go on; tell whether it was paused."""
    return bool(
        what.pauses()
        .standing()
        .update(
            resumed_on=dialect.clock(),
            resumed_by=user[:_USER_CHARS],
            resume_note=note.strip()[:NOTE_CHARS],
        )
    )


def look(what: Pausable) -> str:
    """Say by whom, since when and why it is paused; '' if it is not."""
    row = what.pauses().standing().first()
    return "" if row is None else sentence(row)


def sentence(row: OperatorPause) -> str:
    """Say it for an operator; it stays the same while the pause lasts."""
    why = f": {' '.join(shown.message(row.note).split())}" if row.note else ""
    who = shown.message(row.paused_by) or "somebody"
    return f"paused by {who} since {row.paused_on:%Y-%m-%d %H:%M:%S} UTC{why}"


class Watch:
    """Looks again and again, and not too often; while the database is away all stays as it was.

    Parameters
    ----------
    what : `Pausable`
        What may be paused.
    clock : callable, optional
        Gives the time in seconds.
    """

    def __init__(self, what: Pausable, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._next = 0.0
        self._found = ""

    def look(self) -> str:
        """Say by whom, since when and why it is paused; '' if it is not."""
        if self._clock() >= self._next:
            self._next = self._clock() + LOOK_EVERY_S
            try:
                self._found = look(self._what)
            except outages.UNAVAILABLE as error:
                outages.away(error)
        return self._found
