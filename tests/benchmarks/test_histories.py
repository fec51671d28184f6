"""What is measured with a long history behind it runs, on a short one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg2
import pytest

from benchmarks.rows import read
from tests.benchmarks.running import run


@pytest.fixture
def database(server: str) -> Iterator[str]:
    name = f"endpoint_pages_{uuid4().hex[:12]}"
    yield name
    connection = psycopg2.connect(server)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    connection.close()


def test_flatness_on_sqlite(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    few = ("--quick", "--rounds", "1", "--files", "12000", "--database", "sqlite")
    run("flatness", *few, "--json", str(rows), ground=tmp_path)
    steps = {row.what.partition(":")[0] for row in read(rows)}
    assert {"claim of 100", "ingester, idle cycle", "the admin's front page"} <= steps
    run("flatness", *few, "--drop", ground=tmp_path)
    assert list(tmp_path.iterdir()) == [rows]


def test_flatness_on_postgresql(tmp_path: Path, server: str) -> None:
    rows = tmp_path / "rows.jsonl"
    few = ("--quick", "--rounds", "1", "--files", "12000", "--database", "postgresql")
    try:
        run("flatness", *few, "--json", str(rows), ground=tmp_path, server=server)
    finally:
        run("flatness", *few, "--drop", ground=tmp_path, server=server)
    assert {row.database for row in read(rows)} == {"postgresql"}


def test_pages(tmp_path: Path, server: str, database: str) -> None:
    # Fewer would leave no file that failed: the newest 60,000 wait.
    some = ("--files", "100000", "--only", "search", "--server", server.rpartition("/")[0])
    # 1 tells of slow pages, which is not a test's business.
    said = run("pages", *some, "--database", database, ground=tmp_path, most=1)
    assert "files: search: name" in said and "over their limit" in said
