"""Charts as SVG: figures in, text out. Colours and sizes of type come from the style sheet.

A chart has a title and a description, and its figures stand in a table below it that can be
opened: whoever cannot see it misses nothing. No part of it is told by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH: Final = 640
HEIGHT: Final = 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 8, 10, 22
_INNER: Final = HEIGHT - _TOP - _BOTTOM
#: Labels of the time axis, at most.
_LABELS: Final = 9

Number = float | int


@dataclass(frozen=True, slots=True)
class Series:
    """A row of figures that belong together.

    Parameters
    ----------
    name : `str`
        What they count, for the legend; also the name of their style.
    values : `~collections.abc.Sequence` [`float` or `None`]
        One for each place on the axis; None where nothing is known.
    """

    name: str
    values: Sequence[Number | None]


def bars(
    title: str,
    description: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    key: str,
) -> SafeString:
    """Draw counts as bars, those of several series on top of each other.

    Parameters
    ----------
    title, description : `str`
        What it shows, in a few words, and in a sentence.
    labels : `~collections.abc.Sequence` [`str`]
        Names of the places on the axis.
    series : `~collections.abc.Sequence` [`Series`]
        From the bottom up.
    key : `str`
        Name of this chart on its page, for the ids of its parts.
    """
    sums = [sum(one.values[n] or 0 for one in series) for n in range(len(labels))]
    top = nice_ceiling(max(sums, default=0))
    parts = []
    floors = [0.0] * len(labels)
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    for one in series:
        for n, value in enumerate(one.values):
            if not value:
                continue
            floor, floors[n] = floors[n], floors[n] + value
            parts.append(
                (
                    f"series-{one.name}",
                    _round(_LEFT + n * step + step * 0.1),
                    _round(_y(floors[n], top)),
                    _round(step * 0.8),
                    # A few among very many are still to be seen.
                    _round(max(1.0, _y(floor, top) - _y(floors[n], top))),
                    f"{labels[n]}: {value} {one.name}",
                )
            )
    drawn = format_html_join(
        "\n",
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
        parts,
    )
    return _figure(title, description, labels, series, drawn, top, str, key)


def lines(
    title: str,
    description: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    key: str,
) -> SafeString:
    """Draw durations in seconds as lines, with gaps where nothing is known; see `bars`."""
    known = [value for one in series for value in one.values if value is not None]
    top = nice_ceiling(max(known, default=0))
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    drawn = []
    for one in series:
        points: list[tuple[float, float, str]] = []
        pieces = []
        for n, value in enumerate([*one.values, None]):
            if value is not None:
                told = f"{labels[n]}: {one.name} {seconds(value)}"
                points.append((_round(_LEFT + (n + 0.5) * step), _round(_y(value, top)), told))
                continue
            if len(points) > 1:
                path = " ".join(f"{x},{y}" for x, y, _ in points)
                pieces.append(
                    format_html('<polyline class="line-{}" points="{}"/>', one.name, path)
                )
            pieces += [
                format_html(
                    '<circle class="series-{}" cx="{}" cy="{}" r="2.5"><title>{}</title></circle>',
                    one.name, *point,
                )
                for point in points
            ]  # fmt: skip
            points = []
        drawn += pieces
    joined = format_html_join("\n", "{}", ((piece,) for piece in drawn))
    return _figure(title, description, labels, series, joined, top, seconds, key)


def nice_ceiling(value: Number) -> float:
    """Give a round number that is not below a value: the top of an axis."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    for factor in (1, 2, 5, 10):
        if value <= factor * power:
            return factor * power
    return 10 * power


def seconds(value: Number) -> str:
    """Write a duration as people say it.

    Parameters
    ----------
    value : `float`
        In seconds.
    """
    if value < 1:
        return f"{value * 1000:.0f} ms"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.1f} s"


def _y(value: Number, top: float) -> float:
    return _TOP + _INNER * (1 - value / top)


def _round(value: float) -> float:
    return round(value, 1)


def _short(value: float) -> str:
    return f"{value:g}"


def _figure(
    title: str,
    description: str,
    labels: Sequence[str],
    series: Sequence[Series],
    drawn: SafeString,
    top: float,
    tell: Callable[[Number], str],
    key: str,
) -> SafeString:
    """Put axes, legend and table around what was drawn."""
    tick = _short if tell is str else tell
    axis = format_html_join(
        "\n",
        '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>',
        (
            (_LEFT, WIDTH - _RIGHT, y, y, _LEFT - 6, y + 4, tick(value))
            for value in (0, top / 2, top)
            for y in (_round(_y(value, top)),)
        ),
    )
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    every = max(1, math.ceil(len(labels) / _LABELS))
    names = format_html_join(
        "\n",
        '<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>',
        (
            (_round(_LEFT + (n + 0.5) * step), HEIGHT - 6, label)
            for n, label in enumerate(labels)
            if n % every == 0
        ),
    )
    legend = format_html_join(
        "", '<li><span class="swatch series-{}"></span>{}</li>', ((s.name, s.name) for s in series)
    )
    return format_html(
        '<figure class="chart" id="{key}">\n<figcaption>{title}</figcaption>\n'
        '<ul class="legend">{legend}</ul>\n'
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' aria-labelledby="{key}-title {key}-desc">\n'
        '<title id="{key}-title">{title}</title><desc id="{key}-desc">{description}</desc>\n'
        "{axis}\n{names}\n{drawn}\n</svg>\n"
        '<details id="{key}-table"><summary>{title}: the figures</summary>\n{table}\n</details>\n'
        "</figure>",
        key=key,
        title=title,
        description=description,
        legend=legend,
        width=WIDTH,
        height=HEIGHT,
        axis=axis,
        names=names,
        drawn=drawn,
        table=_table(title, labels, series, tell),
    )


def _table(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    tell: Callable[[Number], str],
) -> SafeString:
    heads = format_html_join("", '<th scope="col">{}</th>', ((one.name,) for one in series))
    rows = []
    for n, label in enumerate(labels):
        values = (one.values[n] for one in series)
        cells = format_html_join(
            "", "<td>{}</td>", (("-" if value is None else tell(value),) for value in values)
        )
        rows.append((label, cells))
    body = format_html_join("\n", '<tr><th scope="row">{}</th>{}</tr>', rows)
    return format_html(
        '<table><caption>{}</caption><thead><tr><th scope="col">UTC</th>{}</tr></thead>'
        "<tbody>{}</tbody></table>",
        title,
        heads,
        body,
    )
