from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections

from buffer import database
from buffer.database import DatabaseError, parse, settings_for
from buffer.sections import Database

TOP = Path(__file__).resolve().parent.parent.parent
URL = "postgresql://tester:hunter2@localhost:5432/test"


def section(**keys: Any) -> Database:
    return Database.model_validate(keys)


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "postgres://tester:hunter2@localhost:5432/test",
        "postgres://tester:hunter2@localhost/test",
        "postgresql+psycopg2://tester:hunter2@localhost:5432/test",
        "POSTGRESQL://tester:hunter2@localhost:5432/test",
        "  postgresql://tester:hunter2@localhost/test\n",
        "postgresql://tester:%68unter2@localhost/test",
        "postgresql://localhost/test?user=tester&password=hunter2",
        "postgresql:///test?host=localhost&user=tester&password=hunter2&port=5432",
    ],
)
def test_ways_to_write_the_same_database(url: str) -> None:
    assert parse(url) == parse(URL)
    assert parse(url).differences(parse(URL)) == []


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("postgresql://tester:hunter2@127.0.0.1/test", "host"),
        ("postgresql://tester:hunter2@localhost:5433/test", "port"),
        ("postgresql://tester:hunter2@localhost/other", "database"),
        ("postgresql://other:hunter2@localhost/test", "user"),
        ("postgresql://tester:other@localhost/test", "password"),
        ("postgresql://tester:hunter2@localhost/test?sslmode=require", "options"),
    ],
)
def test_ways_to_differ(url: str, part: str) -> None:
    assert parse(url).differences(parse(URL)) == [part]


def test_parts_are_decoded() -> None:
    parsed = parse("postgresql://u%40x:p%3A%2F%25@%2Frun%2Fpg/a%20b")
    assert (parsed.user, parsed.password) == ("u@x", "p:/%")
    assert (parsed.host, parsed.name, parsed.port) == ("/run/pg", "a b", 5432)
    assert parse("postgres://u:p@[::1]:6/d").host == "::1"
    assert parse("postgres://u:p/a#b?c@h/d").password == "p/a#b?c"
    assert parse("postgres://someone@h").name == "someone"


def test_a_path_is_shown_escaped() -> None:
    assert str(parse("sqlite:////a/%E2%80%A8b")) == r"sqlite:////a/\u2028b"


def test_sqlite_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("sqlite:////var/a.db").name == "/var/a.db"
    assert parse("sqlite:///a.db").name == str(tmp_path / "a.db")
    assert parse("sqlite:///sub/../a%20b.db").name == str(tmp_path / "a b.db")
    assert parse("sqlite+pysqlite:////a.db?check_same_thread=0").name == "/a.db"
    assert parse("sqlite://").name == parse("sqlite:///:memory:").name == ":memory:"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "test",
        "hunter2",
        "mysql://tester:hunter2@h/d",
        "postgres:/tester:hunter2@h/d",
        "postgres://tester:hunter2@more@h/d",
        "postgres://tester:x@hunter2/more@h/d",
        "postgres://tester:x@hunter2:more@h/d",
        "postgres://tester:hunter2@h:port/d",
        "postgres://tester:hunter2@h:99999/d",
        "postgres://tester:hunter2@h:0/d",
        "postgres://:hunter2@h",
        "postgres://tester:hunter2%00@h/d",
        "postgres://tester:hunter2%ff@h/d",
        "sqlite://hunter2/a.db",
        "sqlite:////a.db?mode=hunter2",
        "sqlite:////a.db?timeout=hunter2",
        "sqlite:///file:hunter2?uri=true",
        "sqlite:////a%00hunter2",
        "sqlite:////a%ff",
    ],
)
def test_urls_that_are_refused_without_showing_them(url: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        parse(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_url_is_shown_without_its_password() -> None:
    assert str(parse(URL)) == "postgresql://tester:***@localhost:5432/test"
    assert str(parse("sqlite:////a.db")) == "sqlite:////a.db"
    shown = str(parse("postgres://[::1]/d?user=t&password=hunter2&sslpassword=hunter2"))
    assert "hunter2" not in shown + repr(parse(URL))


# Settings


def test_settings_of_postgresql() -> None:
    made = settings_for(f"{URL}?sslmode=require&options=-c%20jit%3Doff", schema="dbbbm")
    assert made == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "test",
        "USER": "tester",
        "PASSWORD": "hunter2",
        "HOST": "localhost",
        "PORT": "5432",
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "connect_timeout": "10",
            "keepalives_idle": "10",
            "keepalives_interval": "5",
            "keepalives_count": "3",
            "tcp_user_timeout": "20000",
            "sslmode": "require",
            "options": '-c jit=off -c search_path="dbbbm",public',
        },
    }
    assert settings_for(URL, persistent=False)["CONN_MAX_AGE"] == 0


def test_settings_of_sqlite() -> None:
    made = settings_for("sqlite:////var/a.db")
    assert made["NAME"] == "/var/a.db"
    assert made["OPTIONS"] == {
        "timeout": 30.0,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;",
    }
    assert settings_for("sqlite:////a.db?timeout=5")["OPTIONS"]["timeout"] == 5
    with pytest.raises(DatabaseError, match="SQLite has no schemas"):
        settings_for("sqlite:////a.db", schema="x")


def test_settings_can_be_made_before_django_is_set_up() -> None:
    code = "import buffer.database as d, sys; d.settings_for('sqlite:////a'); print('x')"
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, env=environment, check=True)
    assert done.returncode == 0


# Choosing


def test_the_environment_may_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_given_by_us", None)
    monkeypatch.setenv("DATABASE_URL", "postgres://tester:hunter2@localhost/test")
    assert database.check(section(engine=URL)) == []
    assert database.check(section()) == []


def test_the_environment_may_not_say_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_given_by_us", None)
    monkeypatch.setenv("DATABASE_URL", "postgres://tester:other-secret@localhost/test2")
    [problem] = database.check(section(engine=URL))
    assert problem == (
        "database.engine: postgresql://tester:***@localhost:5432/test and DATABASE_URL in the "
        "environment, postgresql://tester:***@localhost:5432/test2, differ (database, password): "
        "make them the same or remove one of them"
    )
    with pytest.raises(DatabaseError):
        database.use(section(engine=URL))
    assert os.environ["DATABASE_URL"].endswith("test2")


def test_a_bad_environment_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://tester:hunter2@h/d")
    [problem] = database.check(section())
    assert problem.startswith("DATABASE_URL in the environment: ")
    assert "hunter2" not in problem


def test_sqlite_has_no_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    tables = {"file": {"schema": "s"}}
    assert database.check(section(engine="sqlite:////a.db", tablenames=tables)) == [
        "database.tablenames: SQLite has no schemas: leave schema out"
    ]


def test_use_switches_this_process(own_default: None, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    database.use(section(engine=url))
    assert os.environ["DATABASE_URL"] == url
    assert settings.DATABASES["default"]["NAME"] == f"{tmp_path}/a.db"
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA database_list")
        assert cursor.fetchone()[2] == f"{tmp_path}/a.db"
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)
        cursor.execute("PRAGMA synchronous")
        assert cursor.fetchone() == (2,)
    # Forked workers and programs that are started get the same.
    child = os.fork()
    if child == 0:
        os._exit(0 if connections["default"].settings_dict["NAME"] == f"{tmp_path}/a.db" else 1)
    assert os.waitpid(child, 0)[1] == 0
    database.use(section(engine=f"sqlite:///{tmp_path}/b.db"))
    assert connections["default"].settings_dict["NAME"] == f"{tmp_path}/b.db"


def test_use_of_the_same_database_keeps_the_connection(
    own_default: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    database.use(section(engine=url))
    wrapper = connections["default"]
    database.use(section(engine=url))
    database.use(section())
    assert connections["default"] is wrapper
    database.use(section(engine=url, pool_class="NullPool"))
    assert connections["default"] is wrapper
    assert wrapper.settings_dict["CONN_MAX_AGE"] == 0


def test_a_relative_database_means_the_same_in_another_directory(
    own_default: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    database.use(section(engine="sqlite:///a b.db?timeout=7"))
    monkeypatch.chdir("/")
    assert parse(os.environ["DATABASE_URL"]).name == f"{tmp_path}/a b.db"


def test_echo_logs_statements_without_secrets(
    own_default: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = f"sqlite:///{tmp_path}/a.db"
    database.use(section(engine=engine, echo=True))
    with caplog.at_level(logging.INFO), connection.cursor() as cursor:
        cursor.execute("SELECT %s, %s", [URL, "x" * 5000])
        with pytest.raises(Exception, match="no such table"):
            cursor.execute("SELECT * FROM nowhere")
    text = caplog.text
    assert "SELECT %s, %s" in text
    assert "nowhere" in text
    assert "hunter2" not in text
    assert len(text) < 4000
    caplog.clear()
    database.use(section(engine=engine))
    with caplog.at_level(logging.INFO), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert caplog.text == ""
