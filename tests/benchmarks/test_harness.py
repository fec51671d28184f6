"""How the program and the ideal loop take turns."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from benchmarks.harness import Bench, timed


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


def test_a_clock_stands_still_after_the_block() -> None:
    with timed() as seconds:
        during = seconds()
    assert 0 <= during <= seconds()
    assert seconds() == seconds()
