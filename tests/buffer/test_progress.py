from __future__ import annotations

import logging

import pytest

from buffer.progress import Amount, Pace, Progress, duration


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rates_and_the_time_left() -> None:
    clock = Clock()
    pace = Pace(clock)
    clock.now += 10
    pace.saw(Amount(2000, 50_000_000))
    assert pace.text(None) == "2,000 files (counting), 200 files/s, 5.0 MB/s"
    assert pace.text(Amount(8000, 200_000_000)) == (
        "2,000 of 8,000 files, 200 files/s, 5.0 MB/s, 30 s left"
    )


def test_rates_are_recent_ones() -> None:
    clock = Clock()
    pace = Pace(clock)
    for second in range(1, 1000):
        clock.now += 1
        pace.saw(Amount(min(second, 100) * 1000 + max(0, second - 100)))
    assert ", 1 files/s" in pace.text(None)
    assert len(pace._seen) < 40


def test_the_time_left_counts_bytes_too() -> None:
    """Small files first: the large ones that are left do not go at their rate per file."""
    clock = Clock()
    pace = Pace(clock)
    clock.now += 10
    pace.saw(Amount(1000, 1_000_000))
    assert "h left" in pace.text(Amount(1010, 1_000_000_000_000))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (61, "1:01 min"), (3599, "1:00 h"), (7500, "2:05 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("buffer.progress.time.monotonic", clock)
    with caplog.at_level(logging.INFO), Progress() as progress:
        for _ in range(100):
            clock.now += 0.25
            progress.show(Amount(10, 10), Amount(20, 20))
        progress.show(Amount(20, 20), Amount(20, 20), last=True)
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("10 of 20 files, ")


def test_lines_that_go_elsewhere_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = Clock(), list[str]()
    monkeypatch.setattr("buffer.progress.time.monotonic", clock)
    with Progress(said.append, every_s=60) as progress:
        for _ in range(100):
            clock.now += 1
            progress.show(Amount(10, 10), None)
    assert len(said) == 1 and said[0].startswith("10 files (counting), ")
