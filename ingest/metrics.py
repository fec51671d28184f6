"""The numbers that Prometheus collects, read from the database when it asks.

Nothing here counts history: what waits is counted from the index on it, events from the tallies,
and what only a process knows from what it wrote with its heartbeat. No label has a file's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from django.db.models import Count
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from buffer import __version__, components, dialect
from buffer.histograms import ATTEMPT_S, TAKE_IN_S, Histogram
from buffer.models import (
    Component,
    ComponentKind,
    File,
    Notice,
    OperatorPause,
    Refusal,
    RefusalReason,
)
from buffer.names import escape
from ingest import waiting
from ingest.alerts import raised
from ingest.models import Breaker, Ingester, Tally
from ingest.statuses import Status

_KINDS: Final = ("stored", "duplicates", "refused", "released", "unreleased", "recovered", "known")
_WATCHED: Final = (ComponentKind.FINDER, ComponentKind.INGESTER, ComponentKind.WORKERS)


class FromDatabase(Collector):
    """Collects everything, in some ten queries."""

    def describe(self) -> list[Metric]:
        """Name nothing beforehand: that would need the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give all numbers."""
        info = GaugeMetricFamily("endpoint_build_info", "The version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        runs = [row for kind in _WATCHED for row in components.latest(kind)]
        ingesters = list(Ingester.objects.order_by("name"))
        now = dialect.clock()
        yield from _backlogs(ingesters, now)
        yield from _events({row.pk: row.name for row in ingesters})
        yield from _refusals()
        yield from _components(runs, now)
        yield from _finders([row for row in runs if row.kind == ComponentKind.FINDER], now)
        yield from _pauses(ingesters)
        yield from _alerts()
        yield from _ingesters([row for row in runs if row.kind == ComponentKind.INGESTER])


registry = CollectorRegistry(auto_describe=False)
registry.register(FromDatabase())


def _backlogs(ingesters: list[Ingester], now: datetime) -> Iterator[Metric]:
    files = GaugeMetricFamily(
        "endpoint_waiting_files", "Files that wait for an attempt.", labels=["ingester"]
    )
    oldest = GaugeMetricFamily(
        "endpoint_oldest_waiting_seconds",
        "For how long the oldest file has been waiting for its attempt.",
        labels=["ingester"],
    )
    failed = GaugeMetricFamily(
        "endpoint_failed_files",
        "Files that may need a person, by their present status.",
        labels=["ingester", "status"],
    )
    held = GaugeMetricFamily(
        "endpoint_held_files", "Files that workers hold now.", labels=["ingester"]
    )
    claims = waiting.held()
    for row in ingesters:
        backlog = waiting.backlog(row)
        files.add_metric([row.name], backlog.files)
        oldest.add_metric([row.name], waiting.seconds_since(backlog.oldest, now))
        held.add_metric([row.name], claims.get(row.pk, 0))
        for status, number in backlog.needing_a_person.items():
            failed.add_metric([row.name, status], number)
    yield from (files, oldest, failed, held)


def _events(names: dict[int, str]) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "endpoint_events",
        "Events of files, by the status they gave.",
        labels=["ingester", "status"],
    )
    attempts = HistogramMetricFamily(
        "endpoint_attempt_duration_seconds", "How long attempts took.", labels=["ingester"]
    )
    for tally in Tally.objects.filter(ingester__in=names):
        name = names[tally.ingester_id]
        for status in Status:
            events.add_metric([name, status], tally.events.get(status, 0))
        _add(attempts, [name], Histogram.load(tally.attempts, ATTEMPT_S))
    yield from (events, attempts)


def _refusals() -> Iterator[Metric]:
    refusals = GaugeMetricFamily(
        "endpoint_refusals", "Refusals that stand, by reason.", labels=["reason"]
    )
    standing = Refusal.objects.unresolved().order_by().values_list("reason")
    numbers = dict(standing.annotate(n=Count("id")))
    for reason in RefusalReason:
        refusals.add_metric([reason], numbers.get(reason, 0))
    yield refusals
    yield GaugeMetricFamily(
        "endpoint_intents", "Files that are being taken in.", value=File.objects.intents().count()
    )


def _pauses(ingesters: list[Ingester]) -> Iterator[Metric]:
    by_person = GaugeMetricFamily(
        "endpoint_paused_by_operator",
        "1: a person has paused it.",
        labels=["component", "subject", "host"],
    )
    for row in OperatorPause.objects.standing():
        by_person.add_metric([row.kind, escape(row.subject), row.host], 1)
    by_breaker = GaugeMetricFamily(
        "endpoint_breaker_open",
        "1: it pauses by itself, because its target does not answer.",
        labels=["ingester"],
    )
    opened = set(Breaker.objects.filter(opened_on__isnull=False).values_list("pk", flat=True))
    for ingester in ingesters:
        by_breaker.add_metric([ingester.name], ingester.pk in opened)
    yield from (by_person, by_breaker)


def _alerts() -> Iterator[Metric]:
    alerts = GaugeMetricFamily(
        "endpoint_alert",
        "1: a threshold of the YAML file is passed.",
        labels=["component", "subject", "host", "condition"],
    )
    for row in raised():
        alerts.add_metric([row.kind, escape(row.subject), row.host, row.condition], 1)
    unsent = Notice.objects.filter(next_try_on__isnull=False).count()
    yield from (
        alerts,
        GaugeMetricFamily("endpoint_unsent_notices", "Messages about alerts.", value=unsent),
    )


def _components(runs: list[Component], now: datetime) -> Iterator[Metric]:
    labels = ["component", "subject", "host"]
    up = GaugeMetricFamily(
        "endpoint_component_up", "1: at work; 0: silent, or stopped in order.", labels=labels
    )
    age = GaugeMetricFamily(
        "endpoint_component_heartbeat_age_seconds", "Since its last heartbeat.", labels=labels
    )
    stopped = GaugeMetricFamily(
        "endpoint_component_stopped", "1: it was stopped in order.", labels=labels
    )
    canary = GaugeMetricFamily(
        "endpoint_canary_age_seconds",
        "For how long its idle workers have left wake-ups waiting.",
        labels=labels,
    )
    for row in runs:
        values = [row.kind, escape(row.subject), row.host]
        live = components.is_live(row, now)
        up.add_metric(values, live)
        stopped.add_metric(values, row.stopped_on is not None)
        age.add_metric(values, waiting.seconds_since(row.seen_on, now))
        if live and row.canary_s is not None:
            canary.add_metric(values, row.canary_s)
    yield from (up, stopped, age, canary)


def _finders(runs: list[Component], now: datetime) -> Iterator[Metric]:
    labels = ["source", "host"]
    arrivals = CounterMetricFamily(
        "endpoint_arrivals", "Arrivals by what became of them.", labels=[*labels, "outcome"]
    )
    take_ins = HistogramMetricFamily(
        "endpoint_take_in_duration_seconds",
        "From the beginning of a batch until each of its files was stored.",
        labels=labels,
    )
    free = GaugeMetricFamily(
        "endpoint_free_bytes", "Room on the file system.", labels=[*labels, "area"]
    )
    unsettled = GaugeMetricFamily(
        "endpoint_unsettled_files", "Arrivals that are not complete yet.", labels=labels
    )
    stored = GaugeMetricFamily(
        "endpoint_last_stored_timestamp_seconds", "When it last stored a file.", labels=labels
    )
    blocked = GaugeMetricFamily(
        "endpoint_finder_blocked", "1: it can take nothing in, or failed.", labels=labels
    )
    kept = GaugeMetricFamily(
        "endpoint_kept_copies",
        "Copies of lost arrivals in the storage area of a finder at work.",
        labels=labels,
    )
    standing = OperatorPause.objects.standing().filter(kind=ComponentKind.FINDER)
    paused = set(standing.values_list("host", "subject"))
    for row in runs:
        values = [escape(row.subject), row.host]
        for kind in _KINDS:
            arrivals.add_metric([*values, kind], row.counters.get(kind, 0))
        _add(take_ins, values, Histogram.load(row.measures.get("take_in", {}), TAKE_IN_S))
        unsettled.add_metric(values, row.counters.get("waiting", 0))
        blocked.add_metric(values, bool(row.message) and (row.host, row.subject) not in paused)
        if components.is_live(row, now):
            kept.add_metric(values, len(row.measures.get("kept", [])))
        if row.measures.get("stored_at"):
            stored.add_metric(values, row.measures["stored_at"])
        for area, number in row.measures.get("free_bytes", {}).items():
            if number is not None:
                free.add_metric([*values, area], number)
    yield from (arrivals, take_ins, free, unsettled, stored, blocked, kept)


def _ingesters(runs: list[Component]) -> Iterator[Metric]:
    rescues = CounterMetricFamily(
        "endpoint_lease_rescues",
        "Files that lost workers held, and that are free again or UNKNOWN.",
        labels=["ingester", "host"],
    )
    for row in runs:
        rescues.add_metric([row.subject, row.host], row.counters.get("lease_rescues", 0))
    yield rescues


def _add(family: HistogramMetricFamily, labels: list[str], found: Histogram) -> None:
    family.add_metric(labels, list(found.cumulative()), found.sum_s)
