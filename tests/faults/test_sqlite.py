"""An SQLite file that somebody else holds, whose volume is full, or that is gone."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.media import injected
from tests.faults.night import ALLOWED_S, Night
from tests.system.conftest import installed, sqlite_url
from tests.system.product import Product
from tests.tally import Tally
from tests.tools import need_root

OUTAGE_S = 10.0


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program holds it, as a backup or a person in its shell may."""
    other = sqlite3.connect(database, timeout=30, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextlib.contextmanager
def out_of_space(database: Path) -> Iterator[None]:
    """Somebody else fills the volume."""
    filler = database.with_name("filler")
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    yield
    filler.unlink()


def survive(
    fault: Callable[[Path], contextlib.AbstractContextManager[None]],
    product: Product,
    tally: Tally,
    outage_s: float,
    old: int,
    *,
    says_why: bool,
) -> None:
    night = Night(product, old=old)
    night.at_work()
    night.start_backfill()
    night.at_work()
    with fault(Path(product.url.removeprefix("sqlite:///"))):
        night.land(30)
        time.sleep(outage_s)
    took = night.resumes(time.monotonic())
    statuses = night.ends_well(unknown=0)
    assert took < ALLOWED_S
    if says_why:
        night.all_said_why()
    for command in night.commands:
        assert says_why or "is locked" not in command.err, command
    name = fault.__name__.replace("_", " ")
    tally(f"SQLite {name} for {outage_s:g} s", 1, took, f"{statuses.total()} files")


@pytest.mark.parametrize(
    ("outage_s", "old"), [pytest.param(OUTAGE_S, 4000, marks=pytest.mark.full), (2.0, 400)]
)
def test_locked(outage_s: float, old: int, product_on_sqlite: Product, tally: Tally) -> None:
    """It waits, and nobody is told."""
    survive(locked, product_on_sqlite, tally, outage_s, old, says_why=False)


@pytest.mark.full
def test_no_space_left(sqlite_template: Path, tmp_path: Path, tally: Tally) -> None:
    need_root("mount a small file system")
    volume = tmp_path / "volume"
    volume.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "volume", str(volume)]
    subprocess.run(command, check=True)
    try:
        database = Path(shutil.copy(sqlite_template, volume / "endpoint.sqlite3"))
        for product in installed(sqlite_url(database), tmp_path):
            survive(out_of_space, product, tally, OUTAGE_S, 4000, says_why=True)
    finally:
        subprocess.run(["umount", "--lazy", str(volume)], check=True)


@pytest.mark.full
@pytest.mark.parametrize("error", ["EIO", "EROFS"])
def test_writes_fail(product_on_sqlite: Product, tally: Tally, error: str) -> None:
    """The medium fails, or turned read-only, under a running finder; then it is well again."""
    product = product_on_sqlite
    command = product.start("runfinder", product.finder_yaml())
    product.land("before.fits")
    product.wait(lambda: product.stored() == 1, "it works")
    database = Path(product.url.removeprefix("sqlite:///"))
    paths = [database, database.with_name(f"{database.name}-wal")]
    with injected(product, command, {"pwrite64": error}, paths) as injection:
        product.land("meanwhile.fits")
        product.wait(injection.count, "it fails")
        product.wait(lambda: command.says("the database cannot be used"), "it says so")
        assert (product.buffer / "meanwhile.fits").exists()
        failed = injection.count()
    begin = time.monotonic()
    product.wait(lambda: product.stored() == 2, "it goes on by itself")
    took = time.monotonic() - begin
    command.stops()
    product.check_at_rest()
    tally(f"SQLite: {error} at its writes", failed, took)


def test_gone_at_the_start(product_on_sqlite: Product) -> None:
    """A new, empty one would look as if everything had been lost."""
    product = product_on_sqlite
    database = Path(product.url.removeprefix("sqlite:///"))
    kept = database.rename(database.with_name("kept"))
    product.run("runfinder", product.finder_yaml()).refused("no such file", "manage.py migrate")
    assert not database.exists()
    database.write_bytes(b"not a database, whatever its name says" * 100)
    product.run("runfinder", product.finder_yaml()).refused("not a database")
    kept.rename(database)


def test_migrations_of_another_version(product: Product) -> None:
    """Neither old code on a new database nor new code on an old one: each says what to run."""
    commands = (["runfinder", product.finder_yaml()], ["runingester", product.ingester_yaml()])
    insert = "INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, CURRENT_TIMESTAMP)"
    product.rows(insert, "ingest", "9999_of_the_future")
    for command in commands:
        product.run(*command).refused("newer version", "ingest.9999_of_the_future", "update")
    product.rows("DELETE FROM django_migrations WHERE name = '9999_of_the_future'")
    newest = product.value("SELECT max(name) FROM django_migrations WHERE app = 'ingest'")
    product.rows("DELETE FROM django_migrations WHERE app = 'ingest' AND name = %s", newest)
    for command in commands:
        product.run(*command).refused(f"ingest.{newest}", "manage.py migrate")
    product.rows(insert, "ingest", newest)
