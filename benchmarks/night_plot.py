"""The simulated night as a drawing (SVG, for the documentation) and as a few lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

_WIDTH, _HEIGHT = 860, 220
_LEFT, _RIGHT, _TOP, _GAP = 80, 20, 44, 64
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
#: Told apart with all kinds of colour vision, and by light and dark.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73")


@dataclass(frozen=True, slots=True)
class Line:
    """Values at evenly spaced times; NaN where there is none."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """Some lines with one axis."""

    title: str
    lines: Sequence[Line]
    logarithmic: bool = False


def write(
    path: Path, title: str, hours: float, shaded: tuple[float, float, str], panels: Sequence[Panel]
) -> None:
    """Draw panels one below the other over the same hours.

    Parameters
    ----------
    path : `pathlib.Path`
        The SVG file.
    title : `str`
        What it shows, also for those who cannot see it.
    hours : `float`
        Length of the horizontal axis.
    shaded : `tuple`
        From which to which hour something was the matter, and what.
    panels : `~collections.abc.Sequence` [`Panel`]
        What to draw.
    """
    height = _TOP + len(panels) * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        ' font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="15">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, _TOP + number * (_HEIGHT + _GAP), hours, shaded)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def _panel(panel: Panel, top: float, hours: float, shaded: tuple[float, float, str]) -> list[str]:
    known = [v for line in panel.lines for v in line.values if math.isfinite(v)]
    most = max(known, default=1.0) or 1.0
    if panel.logarithmic:
        low = math.floor(math.log10(max(1.0, min((v for v in known if v > 0), default=1.0))))
        high = max(low + 1, math.ceil(math.log10(most)))
        ticks = [10.0**power for power in range(low, high + 1)]
    else:
        step = 10.0 ** math.floor(math.log10(most))
        step = next(s for s in (step / 2, step, step * 2, step * 5) if most / s <= 5)
        ticks = [n * step for n in range(math.ceil(most / step) + 1)]
    bottom, right = top + _HEIGHT, _WIDTH - _RIGHT

    def x(hour: float) -> float:
        return _LEFT + hour / hours * (right - _LEFT)

    def y(value: float) -> float:
        if panel.logarithmic:
            share = (math.log10(max(value, ticks[0])) - low) / (high - low)
        else:
            share = value / ticks[-1]
        return bottom - share * _HEIGHT

    begin, end, what = shaded
    parts = [
        f'<rect x="{x(begin):.1f}" y="{top}" width="{x(end) - x(begin):.1f}" height="{_HEIGHT}"'
        ' fill="#eeeeee"/>',
        f'<text x="{x(begin) + 4:.1f}" y="{top + 16}" fill="#555">{escape(what)}</text>',
        f'<text x="{_LEFT}" y="{top - 8}" font-weight="bold">{escape(panel.title)}</text>',
    ]
    for tick in ticks:
        parts.append(
            f'<path d="M{_LEFT} {y(tick):.1f}H{right}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>'
        )
    for hour in range(int(hours) + 1):
        parts.append(f'<text x="{x(hour):.1f}" y="{bottom + 18}">{hour} h</text>')
    for number, line in enumerate(panel.lines):
        colour, count = COLOURS[number], len(line.values)
        path, pen = "", "M"
        for n, value in enumerate(line.values):
            if not math.isfinite(value):
                pen = "M"
                continue
            path += f"{pen}{x((n + 0.5) / count * hours):.1f} {y(value):.1f}"
            pen = "L"
        place = right - 170 * (len(panel.lines) - number) + 20
        parts.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
            f'<text x="{place}" y="{top - 8}" fill="{colour}">{escape(line.name)}</text>'
        )
    return parts


def text(name: str, values: Sequence[float], width: int = 72) -> str:
    """Draw values as one line of blocks, each the greatest of its part."""
    size = max(1, math.ceil(len(values) / width))
    parts = [max(values[n : n + size]) for n in range(0, len(values), size)]
    most = max(parts) or 1.0
    blocks = "".join(_BLOCKS[math.ceil(value / most * (len(_BLOCKS) - 1))] for value in parts)
    return f"{name:<24} |{blocks}| most {most:,.0f}"
