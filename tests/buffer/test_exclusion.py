from __future__ import annotations

import logging
import time

import pytest

from buffer.exclusion import PatternList


@pytest.mark.parametrize(
    ("patterns", "path", "found"),
    [
        ([], "a.fits", None),
        (None, "a.fits", None),
        ([r"\.json$"], "sub/a.json", r"\.json$"),
        ([r"\.json$"], "sub/a.json.fits", None),
        (["raw", r"fits$"], "a.fits", "fits$"),
        ([r"^(?!20240101/)"], "20240101/a.fits", None),
        ([r"^(?!20240101/)"], "20240102/a.fits", r"^(?!20240101/)"),
        ([r"(?<=guider_)\d+"], "guider_12.fits", r"(?<=guider_)\d+"),
        (["ö"], "größe.fits", "ö"),
        (["^a.b$"], "a\udce9b", "^a.b$"),
        (["a.b"], "a\nb", None),
    ],
)
def test_matches(patterns: list[str] | None, path: str, found: str | None) -> None:
    assert PatternList(patterns).matches(path) == found


@pytest.mark.parametrize("pattern", ["(", "*.json", "[a", "(?P<n", "a{3,1}", r"\g<x>"])
def test_a_bad_pattern_is_named(pattern: str) -> None:
    with pytest.raises(ValueError, match="expected a regular expression") as caught:
        PatternList(["ok", pattern])
    assert pattern.replace("\\", r"\x5c") in str(caught.value)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_timeout_must_be_positive(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        PatternList([], timeout_s=timeout_s)


def test_an_exploding_pattern_is_bounded_and_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exclude = PatternList(["(a+)+$", "^(a|a)+$", "^(a|aa)+$", "z$"], timeout_s=0.1)
    paths = ["a" * 60 + f"!{number}\nz" for number in range(50)]
    start = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="buffer.exclusion"):
        found = [exclude.matches(path) for path in paths]
    assert time.monotonic() - start < 5
    assert found == ["z$"] * 50
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 2
    assert all("\n" not in message and "!0\\x0az" in message for message in warned)


def test_what_is_wanted_is_not_lost_by_a_slow_pattern(caplog: pytest.LogCaptureFixture) -> None:
    wanted = PatternList(["^(a|aa)+$"], "include_list", timeout_s=0.05, when_too_slow=True)
    assert wanted.matches("a" * 60 + "!") is not None
    assert wanted.matches("b") is None
    (record,) = caplog.records
    assert record.getMessage().startswith("include_list: the pattern ^(a|aa)+$ took longer")
    assert "counts as matching" in record.getMessage()


def test_a_pattern_that_timed_out_still_works() -> None:
    exclude = PatternList(["^(a|aa)+$"], timeout_s=0.05)
    for number in range(8):
        assert exclude.matches("a" * 60 + f"!{number}") is None
    assert exclude.matches("aaaa") is not None
