"""Durations in buckets."""

from __future__ import annotations

import json

from buffer.histograms import Histogram


def test_buckets_hold_what_is_not_longer() -> None:
    found = Histogram((0.5, 2.0))
    for seconds in (0.1, 0.5, 1.0, 2.5, 100.0):
        found.observe(seconds)
    assert list(found.cumulative()) == [("0.5", 2), ("2.0", 3), ("+Inf", 5)]
    assert found.sum_s == 104.1


def test_it_is_read_as_it_was_written() -> None:
    found = Histogram((1.0,))
    found.observe(0.25)
    again = Histogram.load(json.loads(json.dumps(found.plain())), (1.0,))
    again.add([0, 2], 7.0)
    assert (again.counts, again.sum_s) == ([1, 2], 7.25)


def test_other_bounds_begin_anew() -> None:
    found = Histogram((1.0,))
    found.observe(0.25)
    assert Histogram.load(found.plain(), (1.0, 2.0)).counts == [0, 0, 0]
    assert Histogram.load({}, (1.0,)).counts == [0, 0]
