"""Alerts: once for each episode of something that a person wanted to be told of, and its all-clear.

Every command that runs for long looks now and then at everything that is watched, not only at its
own; which of them raises an alert is decided by the row. So a component that is dead is missed by
those that live, and a restart sends nothing again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, IntegrityError, InterfaceError, transaction
from pydantic import ValidationError

from buffer import dialect, notices, outages
from buffer.components import last_run
from buffer.finder_config import FinderAlerts
from buffer.models import Alert, Component, ComponentKind, Condition, Notice
from buffer.names import escape
from buffer.operator_pauses import Pausable, look
from buffer.wakeups import QueueUnavailable

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 30.0
_DELIVER: Final = f"{notices.deliver.__module__}.{notices.deliver.__qualname__}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at something that is watched gave.

    Parameters
    ----------
    condition : `Condition`
        What is watched.
    what : `Pausable`
        Of which finder or ingester.
    trouble : `str` or `None`
        What is wrong, '' if nothing; None if nobody can tell now, so that all stays as it is.
    """

    condition: Condition
    what: Pausable
    trouble: str | None


#: Who else gives readings: applications that come after this one add theirs.
sources: list[Callable[[datetime], Iterable[Reading]]] = []


def raised() -> list[Alert]:
    """Give the alerts that stand, oldest first."""
    return list(Alert.objects.standing().order_by("raised_on", "id"))


def check() -> None:
    """Look at everything; raise what is new and clear what is over."""
    now = dialect.clock()
    standing = {
        (alert.condition, alert.kind, alert.subject, alert.host): alert for alert in raised()
    }
    for source in (finder_readings, *sources):
        for reading in source(now):
            what = reading.what
            alert = standing.pop((reading.condition, what.kind, what.subject, what.host), None)
            if reading.trouble and alert is None:
                _raise(reading, now)
            elif reading.trouble == "" and alert is not None:
                _clear(alert, now)
    # Nobody watches for these any more: the threshold was taken out of the YAML file.
    for alert in standing.values():
        _clear(alert, now)


class Watch:
    """Checks now and then, and has what is to be sent delivered by a worker."""

    def __init__(self) -> None:
        self._next = time.monotonic() + LOOK_EVERY_S

    def step(self, send: Callable[[str], object]) -> None:
        """Look, if it is time to; `send` puts a task on a queue whose workers are at work."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_EVERY_S
        try:
            check()
            if notices.are_due():
                send(_DELIVER)
        except QueueUnavailable:
            raise
        except (DatabaseError, InterfaceError) as error:
            outages.away(error)


def finder_readings(now: datetime) -> Iterable[Reading]:
    """Tell of each finder whether nothing was stored for longer than its YAML file expects."""
    rows = Component.objects.filter(kind=ComponentKind.FINDER).order_by("id")
    runs: dict[Pausable, list[Component]] = {}
    for row in rows:
        what = Pausable.of(row)
        assert what is not None
        runs.setdefault(what, []).append(row)
    for what, known in runs.items():
        try:
            config = FinderAlerts.model_validate(known[-1].settings["finder"].get("alerts") or {})
        except (ValidationError, KeyError, TypeError, AttributeError):
            # Of another version.
            continue
        if config.silence_hours is not None:
            stored = [row.measures["stored_at"] for row in known if row.measures.get("stored_at")]
            since = datetime.fromtimestamp(max(stored), UTC) if stored else known[0].started_on
            trouble = silence("nothing was stored", since, now, config.silence_hours)
            yield Reading(Condition.SILENCE, what, None if is_off(what) else trouble)


def silence(words: str, since: datetime, now: datetime, hours: float) -> str:
    """Say that something has not happened for longer than expected; '' if it has."""
    passed_h = (now - since).total_seconds() / 3600
    if passed_h <= hours:
        return ""
    return f"{words} since {since:%Y-%m-%d %H:%M} UTC, more than {hours:g} hours"


def is_off(what: Pausable) -> bool:
    """Tell whether a person paused it, or stopped all of it in order: nothing is expected then."""
    if look(what):
        return True
    rows = last_run(what.kind, what.subject, what.host)
    return bool(rows) and all(row.stopped_on is not None for row in rows)


def _raise(reading: Reading, now: datetime) -> None:
    what = reading.what
    try:
        with transaction.atomic():
            alert = Alert.objects.create(
                condition=reading.condition,
                kind=what.kind,
                subject=what.subject,
                host=what.host,
                detail=reading.trouble or "",
                raised_on=now,
            )
            _notify(alert, now, all_clear=False)
    except IntegrityError:
        # Another process looked at the same moment.
        return
    logger.warning("alert: %s: %s", what, alert.detail)


def _clear(alert: Alert, now: datetime) -> None:
    with transaction.atomic():
        if not Alert.objects.standing().filter(pk=alert.pk).update(cleared_on=now):
            return
        _notify(alert, now, all_clear=True)
    logger.info("alert is over: %s %s: %s", alert.kind, escape(alert.subject), alert.detail)


def _notify(alert: Alert, now: datetime, *, all_clear: bool) -> None:
    fields: dict[str, Any] = {"alert": alert, "all_clear": all_clear, "next_try_on": now}
    if settings.ALERT_EMAILS:
        Notice.objects.create(channel=Notice.Channel.EMAIL, **fields)
    if settings.ALERT_WEBHOOK:
        Notice.objects.create(channel=Notice.Channel.WEBHOOK, **fields)
