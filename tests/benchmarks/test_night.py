"""The simulated night: its plan, and its drawing."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from benchmarks import night, night_plot
from benchmarks.night_plot import Line, Panel


def test_plan() -> None:
    plan = night.Plan.make()
    assert plan == night.Plan.make() and plan != night.Plan.make(seed=2)
    assert len(plan.exposures) == night.EXPOSURES
    assert list(plan.exposures) == sorted(plan.exposures)
    assert 8 < plan.exposures[-1] / 3600 < 12, "a night"
    down, up = plan.outage
    assert up - down == night.OUTAGE_S and 0 < down < up < plan.exposures[-1]
    assert len(set(plan.exposures)) < night.EXPOSURES - 50, "some come at once"


def test_counting() -> None:
    assert night._running([5.0, 1.0, 3.0], [0, 1, 2, 5]) == [0, 1, 1, 3]
    assert night._quantile([3, 1, 2], 0.5) == 2
    assert math.isnan(night._quantile([], 0.5))


def test_drawing(tmp_path: Path) -> None:
    lines = [Line("a", [0, 10, math.nan, 2500]), Line("b", [1, 1, 1, 1])]
    panels = [Panel("one", lines), Panel("other", lines, logarithmic=True)]
    night_plot.write(tmp_path / "x.svg", "Files & time", 4, (1, 2, "away <"), panels)
    svg = ElementTree.parse(tmp_path / "x.svg").getroot()
    assert svg[0].text == "Files & time"
    strokes = [part.get("d", "") for part in svg.iter() if part.get("stroke-width")]
    assert len(strokes) == 4 and not any("nan" in path for path in strokes)
    assert strokes[0].count("M") == 2, "a gap where there is no value"


def test_text() -> None:
    assert night_plot.text("files", [0, 1, 8], width=3) == f"{'files':<24} | ▁█| most 8"
    assert night_plot.text("none", [0, 0]).endswith("|  | most 1")
