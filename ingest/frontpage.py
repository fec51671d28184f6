"""The front page of the admin: what needs a person, and how the day went."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.utils.safestring import SafeString

from buffer.models import ComponentKind
from buffer.names import escape
from buffer.pause_pages import pausing_url
from ingest import charts
from ingest.attention import Need, needs
from ingest.charts import Series
from ingest.figures import OUTCOMES, Figures, Latency, figures
from ingest.overview import overview
from ingest.states import ComponentState, IngesterState, Overview
from ingest.statuses import Status

#: How often the page is read again; seconds.
REFRESH_S: Final = 15


@dataclass(frozen=True, slots=True)
class IngesterRow:
    """One ingester on the front page.

    Parameters
    ----------
    state : `IngesterState`
        What waits and runs.
    done_lately, done : `int`
        Files that got in within the last 60 minutes, and since the first hour of the charts.
    chart : `~django.utils.safestring.SafeString`
        How its attempts ended, by the hour.
    pausing : `str`
        Address of the page by which it is paused or resumed.
    """

    state: IngesterState
    done_lately: int
    done: int
    chart: SafeString
    pausing: str


@dataclass(frozen=True, slots=True)
class ComponentRow:
    """One component on the front page.

    Parameters
    ----------
    state : `ComponentState`
        Who it is and whether it lives.
    pausing : `str`
        Address of the page by which it is paused or resumed, if it is a finder.
    paused : `bool`
        Whether a person has paused it.
    """

    state: ComponentState
    pausing: str
    paused: bool


@dataclass(frozen=True, slots=True)
class FrontPage:
    """All that the page shows.

    Parameters
    ----------
    state : `Overview`
        Everything at a glance.
    needs : `list` [`Need`]
        What needs a person now.
    ingesters : `list` [`IngesterRow`]
        By name.
    components : `list` [`ComponentRow`]
        Live and silent ones.
    charts : `list` [`~django.utils.safestring.SafeString`]
        Arrivals, and how long things took.
    since : `~datetime.datetime`
        The first hour of the charts.
    """

    state: Overview
    needs: list[Need]
    ingesters: list[IngesterRow]
    components: list[ComponentRow]
    charts: list[SafeString]
    since: datetime
    refresh_s: int = REFRESH_S


def front_page() -> FrontPage:
    """Look at everything, at the same cost whatever the size of the history."""
    state = overview(at_a_glance=True)
    day = figures(state.at)
    labels = [f"{hour:%H}:00" for hour in day.hours]
    paused = {(one.kind, one.subject, one.host) for one in state.operator_pauses}
    return FrontPage(
        state=state,
        needs=needs(state),
        ingesters=[_row(one, day, labels) for one in state.ingesters],
        components=[
            ComponentRow(one, _pausing_of(one), (one.kind, one.subject, one.host) in paused)
            for one in state.components
        ],
        charts=_charts(day, labels),
        since=day.hours[0],
    )


def _row(one: IngesterState, day: Figures, labels: list[str]) -> IngesterRow:
    series = [
        Series(status.value, [hour[one.id, status] for hour in day.outcomes]) for status in OUTCOMES
    ]
    happened = [each for each in series if any(each.values)]
    done = sum(hour[one.id, Status.SUCCESS] for hour in day.outcomes)
    told = ", ".join(f"{sum(n or 0 for n in each.values)} {each.name}" for each in happened)
    chart = charts.bars(
        f"{one.name}: outcomes per hour",
        f"Attempts by how they ended, in each of the last {len(labels)} hours: {told or 'none'}.",
        labels,
        happened or series[:1],
        key=f"outcomes-{one.id}",
    )
    pausing = pausing_url(ComponentKind.INGESTER, escape(one.name))
    return IngesterRow(one, day.latest[one.id, Status.SUCCESS], done, chart, pausing)


def _pausing_of(one: ComponentState) -> str:
    """Give the address for a finder; ingesters, on all hosts, have rows of their own."""
    is_finder = one.kind == ComponentKind.FINDER
    return pausing_url(one.kind, one.subject, one.host) if is_finder else ""


def _charts(day: Figures, labels: list[str]) -> list[SafeString]:
    arrived = [hour.files for hour in day.arrivals]
    return [
        charts.bars(
            "Arrivals per hour",
            f"Files taken in, in each of the last {len(labels)} hours: {sum(arrived)} in all.",
            labels,
            [Series("files", arrived)],
            key="arrivals",
        ),
        _latency("Landing to stored", "storing", labels, day.storing),
        _latency("Stored to ingested", "ingesting", labels, day.ingesting),
    ]


def _latency(title: str, key: str, labels: list[str], latencies: list[Latency]) -> SafeString:
    medians = [one.median for one in latencies]
    latest = next((one for one in reversed(medians) if one is not None), None)
    told = "nothing is known" if latest is None else f"lately half in {charts.seconds(latest)}"
    return charts.lines(
        title,
        "How long some of the files took that arrived in each hour, median and 95th percentile:"
        f" {told}.",
        labels,
        [Series("median", medians), Series("95th", [one.p95 for one in latencies])],
        key=key,
    )
