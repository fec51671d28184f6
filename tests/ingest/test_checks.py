"""Checks before an attempt: the first objection decides."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingest.checks import checks, first_objection
from ingest.statuses import Status


def look(tmp_path: Path, include: list[str], exclude: list[str], name: str) -> str | None:
    objection = first_objection(checks(include, exclude), f"night/{name}", str(tmp_path / name))
    return None if objection is None else f"{objection.status}: {objection.message}"


@pytest.fixture
def image(tmp_path: Path) -> str:
    (tmp_path / "a.fits").write_bytes(b"x")
    return "a.fits"


def test_a_good_file_passes(tmp_path: Path, image: str) -> None:
    assert look(tmp_path, [], [], image) is None


def test_include_list_names_what_is_wanted(tmp_path: Path, image: str) -> None:
    assert look(tmp_path, [r"\.fits$"], [], image) is None
    assert look(tmp_path, [r"^night/"], [], image) is None
    found = look(tmp_path, [r"\.fz$"], [], image)
    assert found is not None
    assert found.startswith("IGNORED: no pattern of ingester.include_list")


def test_exclude_list_wins_over_include_list(tmp_path: Path, image: str) -> None:
    found = look(tmp_path, [r"\.fits$"], ["a"], image)
    assert found == "IGNORED: ingester.exclude_list has 'a'"


def test_a_file_that_is_not_wanted_need_not_exist(tmp_path: Path) -> None:
    found = look(tmp_path, [], ["gone"], "gone.fits")
    assert found is not None
    assert found.startswith(Status.IGNORED)


def test_what_cannot_be_looked_at_is_left_to_the_plugin(tmp_path: Path, image: str) -> None:
    # Its directory may be unreadable for a moment; here the name is refused by the kernel.
    assert look(tmp_path, [], [], "x" * 300) is None


def test_a_slow_pattern_loses_nothing(tmp_path: Path) -> None:
    name = "a" * 60 + "!"
    (tmp_path / name).write_bytes(b"x")
    assert look(tmp_path, ["(a|aa)+$"], ["(a|aa)+$"], name) is None


def test_missing_empty_and_strange_files_are_invalid(tmp_path: Path) -> None:
    (tmp_path / "empty.fits").touch()
    (tmp_path / "directory.fits").mkdir()
    os.symlink("empty.fits", tmp_path / "link.fits")
    for name, words in {
        "missing.fits": "not in storage",
        "empty.fits": "empty",
        "directory.fits": "regular file",
        "link.fits": "regular file",
    }.items():
        found = look(tmp_path, [], [], name)
        assert found is not None
        assert found.startswith(Status.INVALID)
        assert words in found
