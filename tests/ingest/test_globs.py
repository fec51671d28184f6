"""Patterns of paths."""

from __future__ import annotations

import re

import pytest

from ingest.globs import is_pattern, path_regex


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("a/*.fits", "a/b.fits", True),
        ("a/*.fits", "a/b/c.fits", False),
        ("a/*.fits", "a/bxfits", False),
        ("a/**/c.fits", "a/c.fits", True),
        ("a/**/c.fits", "a/b/b/c.fits", True),
        ("**/c.fits", "c.fits", True),
        ("**/c.fits", "xc.fits", False),
        ("**c.fits", "a/xc.fits", True),
        ("2026-11-2?", "2026-11-23/exposure.fits", True),
        ("2026-11-2?", "2026-11-230/exposure.fits", False),
        ("[ab]x", "bx", True),
        ("[!ab]x", "bx", False),
        ("[!ab]x", "/x", False),
        ("[0-9]x", "7x", True),
        ("[a]]x", "a]x", True),
        ("[]a]x", "]x", True),
        ("a[b", "a[b", True),
        ("a+(b)|c$^{2}.x", "a+(b)|c$^{2}.x", True),
        ("a\\d", "a\\d", True),
        ("a\\d", "a7", False),
        ("ä ö", "ä ö/x", True),
    ],
)
def test_what_matches(pattern: str, path: str, matches: bool) -> None:
    assert (re.search(path_regex(pattern), path) is not None) is matches


def test_what_is_a_pattern() -> None:
    assert all(map(is_pattern, ["a*", "a?", "[a"]))
    assert not is_pattern("2026-11-23/a+b.fits")
