"""Every benchmark runs, on both databases; how fast is not a test's business."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.rows import read
from tests.benchmarks.running import run


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("name", NAMES)
def test_benchmark_runs(
    name: str, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("server") if database == "postgresql" else ""
    rows = tmp_path / "rows.jsonl"
    quick = ("--quick", "--database", database, "--json", str(rows))
    run(name, *quick, ground=tmp_path, server=server)
    results = read(rows)
    assert results
    assert {(row.bench, row.database, row.quick) for row in results} == {(name, database, True)}
    # Nothing is left behind but the rows.
    assert list(tmp_path.iterdir()) == [rows]
