"""How rounds become ratios, and ratios a verdict."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.harness import Bench, Result, timed


def test_sides_take_turns_and_begin_by_turns(tmp_path: Path) -> None:
    said: list[str] = []

    def side(name: str) -> float:
        said.append(name)
        return float(len(said))

    options = Namespace(quick=False, rounds=3)
    bench = Bench("some", "sqlite", "sqlite:///nowhere", tmp_path, options)
    result = bench.compare("it", lambda: side("ours"), lambda: side("ideal"), unit="things/s")
    warm_up = ["ideal", "ours"]
    assert said == [*warm_up, "ideal", "ours", "ours", "ideal", "ideal", "ours"]
    assert (result.ours, result.ideal) == ([4, 5, 8], [3, 6, 7])
    assert bench.results == [result]


@pytest.mark.parametrize(
    ("ours", "ideal", "target", "reached"),
    [
        ([4, 5, 1], [10, 10, 10], {"at_least": 0.4}, True),
        ([3, 5, 1], [10, 10, 10], {"at_least": 0.4}, False),
        ([15, 15, 90], [10, 10, 10], {"at_most": 1.5}, True),
        ([150, 250, 190], [], {"at_most": 200}, True),
        ([210, 250, 190], [], {"at_most": 200}, False),
        ([210, 250, 190], [], {}, None),
    ],
)
def test_the_median_is_judged(
    ours: list[float], ideal: list[float], target: dict[str, float], reached: bool | None
) -> None:
    assert Result("it", "s", ours, ideal, **target).reached is reached


def test_a_clock_stands_still_after_the_block() -> None:
    with timed() as seconds:
        during = seconds()
    assert 0 <= during <= seconds()
    assert seconds() == seconds()
