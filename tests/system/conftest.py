"""Each test of this directory runs the commands on SQLite and on PostgreSQL, in one pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests import servers
from tests.conftest import unavailable
from tests.system.product import ROOT, Product, sqlite_url, with_password

# The databases of these tests are their own, whatever the run of the suite is for; so that they
# need not run twice, they belong to the run that is for SQLite.
if os.environ.get("TEST_DATABASE") == "postgresql":
    collect_ignore_glob = ["test_*.py"]

Database = tuple[str, Path | str]


def migrate(url: str) -> None:
    environment = {**os.environ, "DATABASE_URL": url}
    environment["DJANGO_SETTINGS_MODULE"] = "endpoint_site.settings"
    command = [sys.executable, "manage.py", "migrate", "--verbosity=0"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "endpoint.sqlite3"
    migrate(sqlite_url(path))
    return path


@pytest.fixture(scope="session")
def postgresql_server() -> str:
    """The URL of a PostgreSQL server."""
    url = servers.postgres_url()
    if url is None:
        unavailable("there is no PostgreSQL")
    assert url is not None
    return url


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: str) -> Iterator[str]:
    """A migrated PostgreSQL database, to be copied."""
    name = f"endpoint_template_{uuid.uuid4().hex[:12]}"
    execute(postgresql_server, f"CREATE DATABASE {name}")
    try:
        migrate(with_password(postgresql_server, name))
        yield name
    finally:
        execute(postgresql_server, f"DROP DATABASE {name} WITH (FORCE)")


def execute(server: str, statement: str) -> None:
    connection = psycopg2.connect(server)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


@pytest.fixture
def sqlite_database(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a fresh SQLite database."""
    return sqlite_url(Path(shutil.copy(sqlite_template, tmp_path / "endpoint.sqlite3")))


@pytest.fixture
def postgresql_database(postgresql_server: str, postgresql_template: str) -> Iterator[str]:
    """The URL of a fresh PostgreSQL database, dropped afterwards."""
    name = f"endpoint_{uuid.uuid4().hex[:12]}"
    execute(postgresql_server, f"CREATE DATABASE {name} TEMPLATE {postgresql_template}")
    try:
        yield with_password(postgresql_server, name)
    finally:
        execute(postgresql_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh database of each kind."""
    return str(request.getfixturevalue(f"{request.param}_database"))


@pytest.fixture
def product(database: str, tmp_path: Path) -> Iterator[Product]:
    """A product whose commands are all gone afterwards, and whose rows and files agree."""
    yield from installed(database, tmp_path)


@pytest.fixture
def product_on_sqlite(sqlite_database: str, tmp_path: Path) -> Iterator[Product]:
    """The same on SQLite only, where the kind of database makes no difference."""
    yield from installed(sqlite_database, tmp_path)


def installed(url: str, tmp_path: Path) -> Iterator[Product]:
    root = tmp_path / "product"
    root.mkdir()
    product = Product(root, url)
    try:
        yield product
        product.check_invariants()
    finally:
        product.close()
