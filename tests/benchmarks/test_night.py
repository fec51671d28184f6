"""The simulated night: its plan, and its drawing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import night, night_plot, night_report
from benchmarks.night_plot import Line, Panel
from benchmarks.night_report import Seen


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
    assert night_report._running([5.0, 1.0, 3.0], [0, 1, 2, 5]) == [0, 1, 1, 3]
    assert night_report._quantile([3, 1, 2], 0.5) == 2
    assert math.isnan(night_report._quantile([], 0.5))


def a_night(**changed: Any) -> Seen:
    times = {"a": 10.0, "b": 100.0, "c": 8000.0}
    good = Seen(
        total=3,
        arrived=times,
        stored={name: moment + 1 for name, moment in times.items()},
        ingested={"a": 12.0, "b": 7500.0, "c": 8003.0},
        taken=dict.fromkeys(times, 1),
        in_storage=3,
        outage=(90.0, 7290.0),
    )
    return replace(good, **changed)


@pytest.mark.parametrize(
    ("changed", "good"),
    [
        ({}, True),
        ({"stored": {"a": 11.0, "b": 101.0}}, False),
        ({"ingested": {"a": 12.0, "b": 7500.0}}, False),
        ({"in_storage": 2}, False),
        ({"taken": {"a": 1, "b": 2, "c": 1}}, False),
        ({"taken": {"a": 1, "b": 1}}, False),
        ({"ingested": {"a": 12.0, "b": 10_900.0, "c": 8003.0}}, False),
    ],
)
def test_a_night_is_judged(
    changed: dict[str, Any], good: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert night_report.judge(a_night(**changed), 100.0, 3600.0) is good
    assert capsys.readouterr().out.endswith("FAILED\n") is not good


def test_figures_of_a_night(capsys: pytest.CaptureFixture[str]) -> None:
    night_report.judge(a_night(), 100.0, 3600.0)
    figures = json.loads(capsys.readouterr().out.rpartition("nothing lost")[0])
    assert figures["greatest backlog"] == 1
    assert figures["backlog of the outage cleared after, simulated min"] == 3.5
    # Of the first file only: the last came within an hour of the outage.
    assert figures["median latency outside the outage, real ms"] == 20.0


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
