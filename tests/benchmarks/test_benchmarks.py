"""Every benchmark runs, on both databases; how fast is not a test's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.harness import Result
from tests import servers
from tests.conftest import unavailable

TOP = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("name", NAMES)
def test_benchmark_runs(name: str, database: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    environment |= {"BENCH_DIR": str(tmp_path)}
    if database == "postgresql":
        server = servers.postgres_url()
        if server is None:
            unavailable("there is no PostgreSQL server")
        environment |= {"BENCH_POSTGRES_URL": str(server)}
    rows = tmp_path / "rows.jsonl"
    subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--database", database,
         "--json", str(rows)],
        cwd=TOP, env=environment, check=True, timeout=120,
    )  # fmt: skip
    results = [Result(**json.loads(line)) for line in rows.read_text("utf-8").splitlines()]
    assert results
    assert {(row.bench, row.database, row.quick) for row in results} == {(name, database, True)}
    # Nothing is left behind but the rows.
    assert list(tmp_path.iterdir()) == [rows]
