"""Who is at work: one row for each run of a command, kept fresh while it lives."""

from __future__ import annotations

import os
import socket
import time
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final

from django.db import DatabaseError, InterfaceError
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from buffer import __version__, dialect, outages
from buffer.models import Component, ComponentKind
from buffer.processes import read_process

BEAT_EVERY_S: Final = 5.0
#: Not heard of for this long: dead, or cut off.
SILENT_AFTER_S: Final = 30.0
#: How long the end of a run waits for a database that is away, so that it can be said.
LAST_WORDS_S: Final = 3.0
_SILENT_AFTER = timedelta(seconds=SILENT_AFTER_S)
_KEPT_FOR = timedelta(days=7)
_SESSIONS_KEPT_FOR = timedelta(minutes=10)


def worker_name() -> str:
    """Name this process for the history: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Heartbeat:
    """Keeps the row of one run fresh.

    Parameters
    ----------
    row_id : `int`
        Id of the row; `begin` makes one.
    last_words_s : `float`, optional
        How long its end may wait for a database that is away, in s.
    """

    def __init__(self, row_id: int, last_words_s: float = 0.0) -> None:
        self.id, self._last_words_s = row_id, last_words_s
        self._next = 0.0
        self._message: str | None = None

    @classmethod
    def begin(
        cls,
        kind: ComponentKind,
        subject: str,
        *,
        settings: dict[str, Any] | None = None,
        workers: int = 0,
        run: int | None = None,
    ) -> Heartbeat:
        """Record the start of a run.

        Parameters
        ----------
        kind : `ComponentKind`
            What it does.
        subject : `str`
            What it works for: a source directory or an ingester's name.
        settings : `dict`, optional
            The configuration that its workers read.
        workers : `int`, optional
            How many workers it has.
        run : `int`, optional
            Id of the run that a session works for.
        """
        _forget_old(kind)
        if kind != ComponentKind.SESSION:
            _close_dead(kind, subject)
        row = Component.objects.create(
            kind=kind,
            subject=subject,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            settings=settings or {},
            workers=workers,
            run_id=run,
            started_on=Now(),
            seen_on=Now(),
        )
        # The end of a session interests nobody, and its worker may be in a hurry.
        return cls(row.pk, 0.0 if kind == ComponentKind.SESSION else LAST_WORDS_S)

    def beat(
        self,
        *,
        message: str | None = None,
        counters: dict[str, int] | None = None,
        measures: dict[str, Any] | None = None,
        canary_s: float | None = None,
        now: bool = False,
    ) -> None:
        """Say that this run lives; optionally what it waits for and what it has done so far.

        A worker writes `measures`, and its command `canary_s`: for how long idle workers have left
        wake-ups waiting, in s.

        Writes every few seconds, or at once when the message changes or `now` is set. A database
        that does not answer is no reason to stop.
        """
        changed = message is not None and message != self._message
        if not changed and not now and time.monotonic() < self._next:
            return
        fields: dict[str, Any] = {"seen_on": Now()}
        if message is not None:
            fields["message"] = message
        if counters is not None:
            fields["counters"] = counters
        if measures is not None:
            fields["measures"] = measures
        if canary_s is not None:
            fields["canary_s"] = canary_s
        if self._write(fields):
            self._message = self._message if message is None else message
            self._next = time.monotonic() + BEAT_EVERY_S

    def stop(self) -> None:
        """Say that this run has ended; if the database is just away, when it is back in a moment.

        Later the next start of the same work closes the row.
        """
        until = time.monotonic() + self._last_words_s
        while not self._write({"stopped_on": Now(), "seen_on": Now(), "message": ""}):
            if time.monotonic() >= until:
                return
            time.sleep(self._last_words_s / 20)

    def _write(self, fields: dict[str, Any]) -> bool:
        try:
            Component.objects.filter(pk=self.id).update(**fields)
        except (DatabaseError, InterfaceError) as error:
            outages.away(error)
            return False
        outages.answers()
        return True

    def __enter__(self) -> Heartbeat:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def live(kind: ComponentKind, **filters: Any) -> QuerySet[Component]:
    """Give the runs of a kind that were heard of lately."""
    now = dialect.clock()
    return Component.objects.filter(
        kind=kind,
        stopped_on__isnull=True,
        seen_on__range=(now - _SILENT_AFTER, now + _SILENT_AFTER),
        **filters,
    )


def latest(kind: ComponentKind) -> list[Component]:
    """Give the last run of a kind for each host and subject that is known (a week back)."""
    # Rows are few: old ones are forgotten.
    rows = Component.objects.filter(kind=kind).order_by("id")
    return list({(row.host, row.subject): row for row in rows}.values())


def last_run(kind: ComponentKind, subject: str, host: str = "") -> list[Component]:
    """Give the last known run of one subject, for each host or for one."""
    return [row for row in latest(kind) if row.subject == subject and host in ("", row.host)]


def is_live(row: Component, now: datetime) -> bool:
    """Tell whether a run was heard of lately.

    Parameters
    ----------
    row : `Component`
        The run.
    now : `~datetime.datetime`
        The time by the database's clock (`buffer.dialect.clock`), which heartbeats go by: those of
        hosts differ. What was heard of in the future was heard of before that clock was set back.
    """
    return row.stopped_on is None and abs(now - row.seen_on) <= _SILENT_AFTER


def _close_dead(kind: ComponentKind, subject: str) -> None:
    """Close earlier runs of the same work here that could not say that they ended.

    The database was away, or they were killed. What lives in another container may have our host's
    name and processes that we do not see, so it must be silent too.
    """
    now = dialect.clock()
    rows = Component.objects.filter(
        kind=kind, subject=subject, host=socket.gethostname(), stopped_on__isnull=True
    )
    dead = [
        row.pk
        for row in rows
        if not is_live(row, now) and (row.pid == os.getpid() or read_process(row.pid) is None)
    ]
    Component.objects.filter(pk__in=dead, stopped_on__isnull=True).update(stopped_on=F("seen_on"))


def _forget_old(kind: ComponentKind) -> None:
    """Sessions come and go by the thousand; their rows are of no use afterwards."""
    kept = _SESSIONS_KEPT_FOR if kind == ComponentKind.SESSION else _KEPT_FOR
    Component.objects.filter(kind=kind, seen_on__lt=dialect.clock() - kept).delete()
