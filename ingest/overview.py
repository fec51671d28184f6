"""What waits, runs and failed: the state of everything on one page.

A few queries, whatever there is. Counting every file by its status reads all ingestions, which
takes seconds when they are many millions; without that, what is shown costs the same at any size.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, Min

from buffer import dialect, shown
from buffer.alerts import raised
from buffer.components import is_live
from buffer.counting import CAP, counted, first_of
from buffer.models import (
    Component,
    ComponentKind,
    File,
    OperatorPause,
    Refusal,
    RefusalReason,
    Suspicion,
)
from buffer.names import escape
from buffer.operator_pauses import sentence
from ingest.cause_board import needing_a_person
from ingest.models import Ingester, Ingestion
from ingest.pauses import shown_pause
from ingest.states import (
    AlertState,
    ComponentState,
    IngesterState,
    OperatorPauseState,
    Overview,
    RefusalState,
    SuspectState,
)
from ingest.statuses import DEFAULT_WANTED, NEEDS_A_PERSON, Status
from ingest.waiting import unopened


def overview(*, at_a_glance: bool = False) -> Overview:
    """Look at everything.

    Parameters
    ----------
    at_a_glance : `bool`, optional
        Leave out how many files got in, failed or are not wanted, and guess at large numbers:
        what remains costs the same with ten thousand files and with ten million.
    """
    now = dialect.clock()
    components = list(
        Component.objects.filter(stopped_on__isnull=True)
        # Silent for days: forgotten, unless it is all that is known of a killed process.
        .filter(seen_on__gte=now - timedelta(days=1))
        .defer("settings")
        .order_by("kind", "subject", "id")
    )
    pauses = list(OperatorPause.objects.standing().order_by("kind", "subject", "host"))
    return Overview(
        at=now,
        ingesters=_ingesters([row for row in components if is_live(row, now)], pauses, at_a_glance),
        components=[
            ComponentState(
                row.pk,
                row.kind,
                escape(row.subject),
                row.host,
                row.pid,
                is_live(row, now),
                row.seen_on,
                row.started_on,
                shown.message(row.message),
                row.counters,
                row.measures.get("free_bytes", {}),
                row.measures.get("total_bytes", {}),
                [escape(path) for path in row.measures.get("kept", [])],
            )
            for row in components
            # Sessions come and go; a silent one is a matter of its ingester's leases.
            if row.kind != ComponentKind.SESSION
        ],
        refusals=_glance_at_refusals() if at_a_glance else _refusals(),
        intents=counted(File.objects.intents()),
        suspects=[
            SuspectState(kind, count, oldest)
            for kind, count, oldest in Suspicion.objects.standing()
            .values_list("kind")
            .annotate(count=Count("id"), oldest=Min("found_on"))
            .order_by("kind")
        ],
        operator_pauses=[
            OperatorPauseState(
                row.kind,
                escape(row.subject),
                row.host,
                row.paused_on,
                shown.message(row.paused_by),
                shown.message(row.note),
                sentence(row),
            )
            for row in pauses
        ],
        alerts=[
            AlertState(
                row.pk,
                row.condition,
                row.kind,
                escape(row.subject),
                row.host,
                shown.message(row.detail),
                row.raised_on,
            )
            for row in raised()
        ],
    )


def _refusals() -> list[RefusalState]:
    groups = Refusal.objects.unresolved().values_list("reason").order_by("reason")
    return [
        RefusalState(*group) for group in groups.annotate(n=Count("id"), oldest=Min("first_seen"))
    ]


def _glance_at_refusals() -> list[RefusalState]:
    """Count them by the index on what stands; ids grow with the time when they were first seen."""
    states = []
    for reason in sorted(RefusalReason.values):
        rows = Refusal.objects.unresolved().filter(reason=reason)
        oldest = rows.order_by("pk").values_list("first_seen", flat=True).first()
        if oldest is not None:
            states.append(RefusalState(reason, counted(rows), oldest))
    return states


@dataclass(slots=True)
class _Tally:
    """What one ingester's rows add up to."""

    counts: dict[str, int] = field(default_factory=dict)
    held: int = 0
    retries: int = 0
    waiting_since: list[datetime] = field(default_factory=list)


def _ingesters(
    live: list[Component], pauses: list[OperatorPause], at_a_glance: bool
) -> list[IngesterState]:
    tallies = {} if at_a_glance else _count_all()
    held_back = {row.subject: sentence(row) for row in pauses if row.kind == ComponentKind.INGESTER}
    states = []
    calling = {} if at_a_glance else needing_a_person()
    for ingester in Ingester.objects.select_related("storage", "breaker").order_by("name"):
        tally = _glance(ingester) if at_a_glance else tallies[ingester.pk]
        pause, held = shown_pause(ingester), held_back.get(ingester.name, "")
        failed, _ = calling.get(ingester.pk, (0, 0))
        new = unopened(ingester)
        first = new.order_by("pk").values_list("stored_on").first()
        mine = [
            row
            for row in live
            if row.subject == ingester.name
            and row.kind in (ComponentKind.INGESTER, ComponentKind.SESSION)
        ]
        states.append(
            IngesterState(
                id=ingester.pk,
                name=ingester.name,
                storage=ingester.storage.name,
                plugin=ingester.plugin,
                counts=tally.counts,
                unopened=counted(new),
                held=tally.held,
                retries=tally.retries,
                oldest_waiting=min([*tally.waiting_since, *(first or ())], default=None),
                live=any(row.kind == ComponentKind.INGESTER for row in mine),
                messages=sorted(
                    {shown.message(row.message) for row in mine if row.message}
                    # What is told of the ingester itself.
                    - {str(pause), held}
                ),
                pause=pause,
                held_back=held,
                failed=failed,
                ignored=0 if at_a_glance else max(0, _troubled(tally) - failed),
            )
        )
    return states


def _troubled(tally: _Tally) -> int:
    return sum(tally.counts.get(status, 0) for status in NEEDS_A_PERSON)


def _count_all() -> dict[int, _Tally]:
    """Read all ingestions once."""
    tallies: dict[int, _Tally] = defaultdict(_Tally)
    groups = Ingestion.objects.order_by().values_list("ingester_id", "status")
    for ingester_id, status, count, claims, due, first in groups.annotate(
        count=Count("id"),
        claims=Count("claim"),
        due=Count("next_attempt_on"),
        first=Min("changed_on"),
    ):
        tally = tallies[ingester_id]
        tally.counts[status] = count
        tally.held += claims
        tally.retries += due
        if status in DEFAULT_WANTED:
            tally.waiting_since.append(first)
    return tallies


def _glance(ingester: Ingester) -> _Tally:
    """Count what waits, by its indexes."""
    mine = Ingestion.objects.filter(ingester=ingester)
    tally = _Tally(
        held=mine.filter(claim__isnull=False).count(),
        retries=counted(mine.filter(next_attempt_on__isnull=False)),
    )
    for status in DEFAULT_WANTED:
        # In this order: by the other condition SQLite would go through all that failed.
        rows = mine.filter(status=status).claimable()
        if count := counted(rows):
            tally.counts[status] = count
            # Files are opened in the order of their rows, and tried again in any order.
            oldest = first_of(rows.order_by("pk"), 1 if status == Status.UNTRIED else CAP)
            since = oldest.aggregate(first=Min("changed_on"))["first"]
            if since is not None:  # None of them waits any more.
                tally.waiting_since.append(since)
    return tally
