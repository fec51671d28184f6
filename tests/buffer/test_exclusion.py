from __future__ import annotations

import logging
import time

import pytest

from buffer.exclusion import ExcludeList


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
    assert ExcludeList(patterns).matches(path) == found


@pytest.mark.parametrize("pattern", ["(", "*.json", "[a", "(?P<n", "a{3,1}", r"\g<x>"])
def test_a_bad_pattern_is_named(pattern: str) -> None:
    with pytest.raises(ValueError, match="expected a regular expression") as caught:
        ExcludeList(["ok", pattern])
    assert pattern.replace("\\", r"\x5c") in str(caught.value)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_timeout_must_be_positive(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        ExcludeList([], timeout_s)


def test_an_exploding_pattern_is_bounded_and_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exclude = ExcludeList(["(a+)+$", "^(a|a)+$", "^(a|aa)+$", "z$"], timeout_s=0.1)
    paths = ["a" * 60 + f"!{number}\nz" for number in range(50)]
    start = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="buffer.exclusion"):
        found = [exclude.matches(path) for path in paths]
    assert time.monotonic() - start < 5
    assert found == ["z$"] * 50
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 2
    assert all("\n" not in message and "!0\\x0az" in message for message in warned)


def test_a_pattern_that_timed_out_still_works() -> None:
    exclude = ExcludeList(["^(a|aa)+$"], timeout_s=0.05)
    for number in range(8):
        assert exclude.matches("a" * 60 + f"!{number}") is None
    assert exclude.matches("aaaa") is not None
