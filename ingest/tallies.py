"""Counting events as they come, once each: their number by status, and how long attempts took.

An event is counted half a minute after it was seen, so that those of transactions that were still
open then, whose ids are lower, are not missed. Each look costs what is new and not what there is.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from django.db.models import Count, Max, Q, Sum

from buffer import dialect
from buffer.histograms import ATTEMPT_S, Histogram
from ingest.models import FileEvent, Tally
from ingest.statuses import NEEDS_A_PERSON, Status

SETTLE_S: Final = 30.0
#: Outcomes are kept apart by such spans of time, for a day; seconds.
SPAN_S: Final = 300
KEPT_S: Final = 86_400
#: Events that one look counts at most.
SLICE: Final = 200_000
_ATTEMPTS: Final = (Status.SUCCESS, Status.FAILURE, Status.UNKNOWN)


def begin(ingester_id: int) -> None:
    """Begin counting, from now on, the events of an ingester that has no tally yet."""
    newest = _newest(FileEvent.objects.all())
    Tally.objects.get_or_create(
        ingester_id=ingester_id,
        defaults={"counted_to": newest, "seen_to": newest, "seen_on": dialect.clock()},
    )


def count(ingester_id: int) -> int:
    """Count the events that are due for it.

    Returns
    -------
    counted : `int`
        How many.
    """
    now = dialect.clock()
    tally = Tally.objects.filter(ingester=ingester_id).first()
    # In the future: the clock was set back.
    if tally is None or abs(now - tally.seen_on) < timedelta(seconds=SETTLE_S):
        return 0
    fields: dict[str, Any] = {}
    counted = 0
    upto = tally.seen_to
    if tally.seen_to > tally.counted_to:
        events = FileEvent.objects.filter(
            ingester=ingester_id, id__gt=tally.counted_to, id__lte=tally.seen_to
        )
        last = events.order_by("id").values_list("id", flat=True)[SLICE - 1 : SLICE].first()
        upto = last or tally.seen_to
        before = _outcomes(tally)
        counted = _add(tally, events.filter(id__lte=upto).order_by())
        tried, failed = (b - a for a, b in zip(before, _outcomes(tally), strict=True))
        _note_recent(tally, now.timestamp(), tried, failed)
        fields = {
            "events": tally.events,
            "attempts": tally.attempts,
            "recent": tally.recent,
            "counted_to": upto,
        }
    if upto == tally.seen_to:
        ours = FileEvent.objects.filter(ingester=ingester_id)
        fields |= {"seen_to": max(_newest(ours), upto), "seen_on": now}
    # Another host's loop may have been faster.
    done = Tally.objects.filter(
        pk=tally.pk, counted_to=tally.counted_to, seen_on=tally.seen_on
    ).update(**fields)
    return counted if done else 0


def outcomes_since(tally: Tally, moment: datetime) -> tuple[int, int]:
    """Tell how many files were tried of late, and how many of them may need a person.

    Spans of time that had begun before are counted whole.
    """
    spans = [span for span in tally.recent if span[0] > moment.timestamp() - SPAN_S]
    return sum(span[1] for span in spans), sum(span[2] for span in spans)


def _outcomes(tally: Tally) -> tuple[int, int]:
    failed = sum(tally.events.get(status, 0) for status in NEEDS_A_PERSON)
    return tally.events.get(Status.SUCCESS, 0) + failed, failed


def _note_recent(tally: Tally, now: float, tried: int, failed: int) -> None:
    begin = int(now // SPAN_S) * SPAN_S
    spans = [span for span in tally.recent if now - KEPT_S - SPAN_S < span[0] < begin]
    same = [span for span in tally.recent if span[0] == begin]
    for _, more_tried, more_failed in same:
        tried, failed = tried + more_tried, failed + more_failed
    tally.recent = [*spans, [begin, tried, failed]] if tried else [*spans, *same]


def _add(tally: Tally, events: Any) -> int:
    attempts = Histogram.load(tally.attempts, ATTEMPT_S)
    timed = Q(duration__isnull=False, status__in=_ATTEMPTS)
    within = {
        f"within_{n}": Count("id", filter=timed & Q(duration__lte=bound))
        for n, bound in enumerate(ATTEMPT_S)
    }
    total = 0
    for group in events.values("status").annotate(
        number=Count("id"),
        timed=Count("id", filter=timed),
        seconds=Sum("duration", filter=timed),
        **within,
    ):
        total += group["number"]
        tally.events[group["status"]] = tally.events.get(group["status"], 0) + group["number"]
        upto = [0, *(group[name] for name in within), group["timed"]]
        attempts.add([b - a for a, b in pairwise(upto)], group["seconds"] or 0.0)
    tally.attempts = attempts.plain()
    return total


def _newest(events: Any) -> int:
    return int(events.aggregate(newest=Max("id"))["newest"] or 0)
