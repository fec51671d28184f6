"""What alerts of ingesters go by; the rest is in `buffer.alerts`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pydantic import ValidationError

from buffer.alerts import Reading, is_off, raised, silence
from buffer.models import ComponentKind, Condition
from buffer.operator_pauses import Pausable
from ingest import tallies, waiting
from ingest.config import IngesterAlerts
from ingest.models import FileEvent, Ingester, Tally

__all__ = ["raised", "readings"]


def readings(now: datetime) -> Iterator[Reading]:
    """Tell of each ingester what its YAML file, as it was last started, wants to be told of."""
    for ingester in Ingester.objects.order_by("name"):
        try:
            config = IngesterAlerts.model_validate(ingester.settings.get("alerts") or {})
        except ValidationError:
            # Of another version.
            continue
        what = Pausable(ComponentKind.INGESTER, ingester.name)
        found = [
            (Condition.SILENCE, _silence(ingester, config, now)),
            (Condition.BACKLOG, _backlog(ingester, config, now)),
            (Condition.FAILURES, _failures(ingester, config, now)),
        ]
        watched = [(condition, trouble) for condition, trouble in found if trouble is not None]
        off = bool(watched) and is_off(what)
        for condition, trouble in watched:
            yield Reading(condition, what, None if off else trouble)


def _silence(ingester: Ingester, config: IngesterAlerts, now: datetime) -> str | None:
    if config.silence_hours is None:
        return None
    newest = FileEvent.objects.filter(ingester=ingester).order_by("-id").first()
    since = ingester.created_on if newest is None else newest.start_time
    return silence("no file was opened or tried", since, now, config.silence_hours)


def _backlog(ingester: Ingester, config: IngesterAlerts, now: datetime) -> str | None:
    if config.oldest_waiting_minutes is None:
        return None
    backlog = waiting.backlog(ingester)
    if waiting.seconds_since(backlog.oldest, now) <= 60 * config.oldest_waiting_minutes:
        return ""
    return (
        f"{backlog.files} files wait, the oldest since {backlog.oldest:%Y-%m-%d %H:%M} UTC, more"
        f" than {config.oldest_waiting_minutes:g} minutes"
    )


def _failures(ingester: Ingester, config: IngesterAlerts, now: datetime) -> str | None:
    if config.failure_percent is None:
        return None
    tally = Tally.objects.filter(ingester=ingester).first()
    if tally is None:
        return ""
    since = now - timedelta(minutes=config.failure_window_minutes)
    tried, failed = tallies.outcomes_since(tally, since)
    if tried < config.failure_least or 100 * failed < config.failure_percent * tried:
        return ""
    return (
        f"{failed} of {tried} files failed in the last {config.failure_window_minutes:g} minutes,"
        f" {config.failure_percent:g} % or more"
    )
