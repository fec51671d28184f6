from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader

from buffer import database, database_ready
from buffer.database import DatabaseError
from buffer.sections import Database
from tests import servers
from tests.conftest import unavailable


def section(**keys: Any) -> Database:
    return Database.model_validate(keys)


def test_a_missing_sqlite_file_is_not_made(own_default: None, tmp_path: Path) -> None:
    database.use(section(engine=f"sqlite:///{tmp_path}/a.db"))
    with pytest.raises(DatabaseError, match=r"there is no such file: run `manage\.py migrate`"):
        database_ready.require_migrated()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(own_default: None, tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("this is not a database, by any means" * 100)
    database.use(section(engine=f"sqlite:///{tmp_path}/a.db"))
    with pytest.raises(DatabaseError, match="cannot be used: file is not a database"):
        database_ready.require_migrated()


def test_migrations_on_sqlite(own_default: None, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "a.db").close()
    check_migrations(f"sqlite:///{tmp_path}/a.db")


def test_the_disk_is_read_once(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    database_ready.require_migrated()
    monkeypatch.delattr(MigrationLoader, "load_disk")
    database_ready.require_migrated()


def test_one_that_sums_up_others(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it replaces was applied when it was not there yet."""
    loader = MigrationLoader(None)
    monkeypatch.setattr(database_ready, "_on_disk", lambda: loader)
    sums_up = ("buffer", "0001_squashed")
    loader.disk_migrations[sums_up] = Migration("0001_squashed", "buffer")
    loader.graph.add_node(sums_up, loader.disk_migrations[sums_up])
    with pytest.raises(
        DatabaseError, match=r"1 migrations are not applied \(buffer\.0001_squashed"
    ):
        database_ready.require_migrated()
    loader.disk_migrations[sums_up].replaces = [("buffer", "0001_initial")]
    database_ready.require_migrated()


@pytest.fixture
def postgres() -> Iterator[str]:
    """Make a database of the test's own; gives its URL."""
    base = servers.postgres_url()
    if base is None:
        unavailable("there is no PostgreSQL")
        return
    name = f"test_{uuid.uuid4().hex}"
    admin = psycopg2.connect(base)
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    yield f"{base.rpartition('/')[0]}/{name}"
    connections["default"].close()
    with admin.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    admin.close()


def test_migrations_on_postgresql(postgres: str, own_default: None) -> None:
    check_migrations(postgres)


def check_migrations(url: str) -> None:
    database.use(section(engine=url))
    with pytest.raises(DatabaseError, match=r"migrations are not applied .*manage\.py migrate"):
        database_ready.require_migrated()
    call_command("migrate", verbosity=0)
    database_ready.require_migrated()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied) "
            "VALUES ('buffer', '9999_future', CURRENT_TIMESTAMP)"
        )
    with pytest.raises(DatabaseError, match=r"newer version \(buffer.9999_future unknown here\)"):
        database_ready.require_migrated()
    with connection.cursor() as cursor:
        # Another program may use the same database.
        cursor.execute("UPDATE django_migrations SET app = 'other' WHERE name = '9999_future'")
    database_ready.require_migrated()


def test_schemas_become_the_search_path(postgres: str, own_default: None) -> None:
    tables = {"file": {"schema": "Dbbbm"}, "event": {"schema": "ev", "table": "e"}}
    database.use(section(engine=postgres, tablenames=tables))
    with pytest.raises(DatabaseError, match="there is no schema Dbbbm, ev "):
        database_ready.require_migrated()
    with connection.cursor() as cursor:
        cursor.execute('CREATE SCHEMA "Dbbbm"; CREATE SCHEMA ev')
        cursor.execute("SELECT current_schemas(false)")
        assert cursor.fetchone() == (["Dbbbm", "ev", "public"],)
    with pytest.raises(DatabaseError, match="not applied"):
        database_ready.require_migrated()


def test_schemas_beside_an_environment_that_says_the_same(
    postgres: str, own_default: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.use(section(engine=postgres))
    database.use(section(tablenames={"schema": "s"}))
    with connection.cursor() as cursor:
        cursor.execute("SHOW search_path")
        assert cursor.fetchone() == ('"s",public',)


def test_an_unreachable_server(own_default: None) -> None:
    database.use(section(engine="postgres://tester:hunter2@127.0.0.1:1/test"))
    with pytest.raises(DatabaseError) as caught:
        database_ready.require_migrated()
    text = str(caught.value)
    assert text.startswith("database PostgreSQL test on 127.0.0.1:1 as tester: cannot be used: ")
    assert "hunter2" not in text
    assert text.isprintable()
