from __future__ import annotations

from pathlib import Path

import pytest

from buffer.config import load
from ingest.backfill_config import BackfillFile, check_backfill
from tests.yaml_files import problem, write

BACKFILL = (
    "database: {{tablenames: {{event: {{table: e}}}}}}\n"
    "backfill:\n  storage: {storage}\n  sources: {sources}\n"
)


def backfill(tmp_path: Path, sources: str) -> BackfillFile:
    text = BACKFILL.format(storage=tmp_path, sources=sources)
    return load(write(tmp_path, text), BackfillFile)


def test_backfill(tmp_path: Path) -> None:
    loaded = backfill(tmp_path, "[2020-12-31, 'a/*.fits', b]")
    assert loaded.name == "e"
    assert loaded.backfill.storage == tmp_path
    assert loaded.backfill.sources == ["2020-12-31", "a/*.fits", "b"]
    assert loaded.backfill.search.exclude_list == []
    assert check_backfill(loaded) == []


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("[]", "backfill.sources: expected a list of paths or glob patterns, at least one"),
        ("null", "backfill.sources: expected a list of paths"),
        ("2020-12-31", "backfill.sources: expected a list of paths"),
        ("[20201231]", "backfill.sources[0]: expected a path or glob pattern below"),
        ("[a, /b]", "backfill.sources[1]: is absolute"),
        ("[a/../b]", "backfill.sources[0]: leads out of backfill.storage"),
        ("[~/b]", "backfill.sources[0]: ~ is not expanded"),
        ("['']", "backfill.sources[0]: expected a path"),
        ("[*.fits]", "put text that begins with * in quotes"),
    ],
)
def test_wrong_sources(tmp_path: Path, sources: str, expected: str) -> None:
    text = BACKFILL.format(storage=tmp_path, sources=sources)
    assert expected in problem(tmp_path, text, BackfillFile)


def test_backfill_needs_the_name_of_an_ingester(tmp_path: Path) -> None:
    line = problem(tmp_path, "backfill: {storage: /a, sources: [b]}", BackfillFile)
    assert "database.tablenames.event.table: is required for backfill" in line


def test_checks_of_a_backfill(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/")
    [line] = check_backfill(backfill(tmp_path, "[a, out/etc]"))
    assert line.startswith("backfill.sources[1]: out/etc leads out of")
    loaded = load(
        write(tmp_path, BACKFILL.format(storage=tmp_path / "gone", sources="[a]")), BackfillFile
    )
    assert "there is no directory" in check_backfill(loaded)[0]
