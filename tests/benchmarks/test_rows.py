"""How rounds become ratios, and ratios a verdict."""

from __future__ import annotations

import pytest

from benchmarks.rows import Result


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
