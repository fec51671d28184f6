"""What became of the files of a simulated night: the backlog over time, and a verdict."""

from __future__ import annotations

import collections
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import night_plot
from benchmarks.night_plot import Line, Panel

_BIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a night; times are in simulated seconds since it began, by file name.

    Parameters
    ----------
    total : `int`
        How many files there were.
    arrived, stored, ingested : `~collections.abc.Mapping` [`str`, `float`]
        When which file was where.
    taken : `~collections.abc.Mapping` [`str`, `int`]
        How often the target took which file.
    in_storage : `int`
        How many files there are in the storage area.
    outage : `tuple` [`float`, `float`]
        When the target went away and came back.
    """

    total: int
    arrived: Mapping[str, float]
    stored: Mapping[str, float]
    ingested: Mapping[str, float]
    taken: Mapping[str, int]
    in_storage: int
    outage: tuple[float, float]


def draw(seen: Seen, svg: Path, title: str) -> None:
    """Draw backlog and latency over time, into a file and as lines of text."""
    end = max([*seen.ingested.values(), *seen.arrived.values()])
    edges = [n * _BIN_S for n in range(math.ceil(end / _BIN_S) + 1)]
    arrived, stored, ingested = (
        _running(times.values(), edges) for times in (seen.arrived, seen.stored, seen.ingested)
    )
    in_buffer = [a - s for a, s in zip(arrived, stored, strict=True)]
    at_target = [s - i for s, i in zip(stored, ingested, strict=True)]
    latencies: dict[int, list[float]] = collections.defaultdict(list)
    for name, moment in seen.ingested.items():
        latencies[int(seen.arrived[name] // _BIN_S)].append(moment - seen.arrived[name])
    median = [_quantile(latencies[n], 0.5) for n in range(len(edges))]
    high = [_quantile(latencies[n], 0.95) for n in range(len(edges))]
    down, up = seen.outage
    night_plot.write(
        svg,
        title,
        edges[-1] / 3600,
        (down / 3600, up / 3600, "the target is away"),
        [
            Panel(
                "Files waiting",
                [Line("in the buffer", in_buffer), Line("for the target", at_target)],
            ),
            Panel(
                "From arrival to ingested, simulated s, by time of arrival",
                [Line("median", median), Line("95th percentile", high)],
                logarithmic=True,
            ),
        ],
    )
    print(night_plot.text("waiting in the buffer", in_buffer))
    print(night_plot.text("waiting for the target", at_target))
    print(night_plot.text("median latency, s", [0 if math.isnan(v) else v for v in median]))


def judge(seen: Seen, speed: float, cleared_within_s: float) -> bool:
    """Print the figures of a night, and tell whether it went well.

    Parameters
    ----------
    seen : `Seen`
        The night.
    speed : `float`
        How many simulated seconds there were in one.
    cleared_within_s : `float`
        How soon after the outage its backlog must be gone; simulated seconds.

    Returns
    -------
    good : `bool`
        Whether nothing was lost or ingested twice, and the backlog was gone in time.
    """
    down, up = seen.outage
    before = [
        seen.ingested[name]
        for name, moment in seen.arrived.items()
        if moment < up and name in seen.ingested
    ]
    cleared = max(before, default=math.inf) - up
    quiet = [
        moment - seen.arrived[name]
        for name, moment in seen.ingested.items()
        if not down - 60 < seen.arrived[name] < up + 3600
    ]
    twice = sum(times - 1 for times in seen.taken.values())
    figures = {
        "files": seen.total,
        "stored": len(seen.stored),
        "in storage": seen.in_storage,
        "ingested": len(seen.ingested),
        "taken by the target": len(seen.taken),
        "taken twice": twice,
        "greatest backlog": _greatest_backlog(seen),
        "backlog of the outage cleared after, simulated min": round(cleared / 60, 1),
        "median latency outside the outage, real ms": _real_ms(_quantile(quiet, 0.5), speed),
        "95th percentile, real ms": _real_ms(_quantile(quiet, 0.95), speed),
    }
    print(json.dumps(figures, indent=1))
    counts = {len(seen.stored), seen.in_storage, len(seen.ingested), len(seen.taken)}
    good = counts == {seen.total} and twice == 0 and cleared <= cleared_within_s
    print("nothing lost, the backlog cleared in time" if good else "FAILED")
    return good


def _greatest_backlog(seen: Seen) -> int:
    """Count the files that waited for the target when most did."""
    changes = [(moment, 1) for moment in seen.stored.values()]
    changes += [(moment, -1) for moment in seen.ingested.values()]
    waiting = most = 0
    for _, change in sorted(changes):
        waiting += change
        most = max(most, waiting)
    return most


def _real_ms(simulated_s: float, speed: float) -> float:
    return round(1000 * simulated_s / speed, 1)


def _running(times: Iterable[float], edges: Sequence[float]) -> list[int]:
    """Count the times up to each edge."""
    ordered, counts, n = sorted(times), [], 0
    for edge in edges:
        while n < len(ordered) and ordered[n] <= edge:
            n += 1
        counts.append(n)
    return counts


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan
