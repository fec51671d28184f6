"""What every benchmark needs: a database, a place for files, rounds, ratios and a table.

A benchmark is a module with a function ``run(bench)`` that calls `Bench.compare` or
`Bench.measure` for each of its rows, and ends with ``main(run)``. It has a process of its own, with
the project's settings and a migrated database that is dropped afterwards.

An absolute time says as much about the machine as about the program, so the program and the *ideal
loop*, straight code that does the bare work of the same step, take turns, and the median of the
ratios of the rounds is what is judged.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg2
from django.core.management import call_command
from django.db import connections
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from benchmarks.rows import Result, add, count, read, show
from buffer.cluster import keep_imported
from buffer.database import use
from buffer.sections import Database
from tests import servers

TOP: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = Path(__file__).resolve().parent / "results"
DATABASES: Final = ("sqlite", "postgresql")
ROUNDS: Final = 5

#: Does something once and tells how it went: seconds, files/s or whatever the row's unit is.
Side = Callable[[], float]


class Bench:
    """What one benchmark works with.

    Attributes
    ----------
    database : `str`
        ``sqlite`` or ``postgresql``.
    url : `str`
        The database, also in the environment for commands that are started.
    scratch : `pathlib.Path`
        A directory of its own, removed afterwards.
    quick : `bool`
        Everything small: to see that it works, not how fast.
    """

    def __init__(self, name: str, database: str, url: str, scratch: Path, options: Any) -> None:
        self.name, self.database, self.url, self.scratch = name, database, url, scratch
        self.quick: bool = options.quick
        self.rounds: int = options.rounds or (1 if options.quick else ROUNDS)
        self.results: list[Result] = []
        self._directories = 0

    def size(self, full: int, quick: int) -> int:
        """Choose a size."""
        return quick if self.quick else full

    def directory(self, name: str = "d", *, below: Path | None = None) -> Path:
        """Make an empty directory of a new name."""
        self._directories += 1
        path = (below or self.scratch) / f"{name}-{self._directories}"
        path.mkdir(parents=True)
        return path

    def connect(self) -> Any:
        """Connect to the database by its driver alone, as durable as the program's connections.

        It commits each statement by itself; begin transactions by ``BEGIN`` (SQLite:
        ``BEGIN IMMEDIATE``).
        """
        if self.database == "sqlite":
            connection = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            return connection
        postgres = psycopg2.connect(self.url)
        postgres.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        return postgres

    def compare(
        self,
        what: str,
        ours: Side,
        ideal: Side,
        *,
        unit: str,
        at_least: float | None = None,
        at_most: float | None = None,
        rounds: int | None = None,
        warm_up: bool = True,
    ) -> Result:
        """Let both take turns, each first in every other round; the first turn of each is lost.

        Parameters
        ----------
        what : `str`
            For the table.
        ours, ideal : callable
            Do it once, from scratch, and give the value; preparing is theirs, untimed.
        unit : `str`
            Of the values.
        at_least, at_most : `float`, optional
            Target of the ratio ours / ideal.
        rounds : `int`, optional
            How often; None: as told on the command line.
        warm_up : `bool`, optional
            Do each once more before, for what is loaded and cached the first time.
        """
        if warm_up and not self.quick:
            ideal(), ours()
        values: dict[Side, list[float]] = {ours: [], ideal: []}
        for number in range(rounds or self.rounds):
            for side in (ours, ideal) if number % 2 else (ideal, ours):
                values[side].append(side())
        return self._add(what, unit, values[ours], values[ideal], at_least, at_most)

    def measure(
        self,
        what: str,
        values: Sequence[float],
        *,
        unit: str,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> Result:
        """Add a row that has no ideal loop: the values are judged themselves."""
        return self._add(what, unit, list(values), [], at_least, at_most)

    def _add(
        self,
        what: str,
        unit: str,
        ours: list[float],
        ideal: list[float],
        at_least: float | None,
        at_most: float | None,
    ) -> Result:
        result = Result(
            what, unit, ours, ideal, at_least, at_most, self.database, self.name, self.quick,
            datetime.now(UTC).isoformat(timespec="seconds"), os.getloadavg()[0],
        )  # fmt: skip
        self.results.append(result)
        return result


@contextlib.contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """Give a clock that stands still after the block: seconds."""
    begun = time.perf_counter()
    ended: float | None = None
    yield lambda: (time.perf_counter() if ended is None else ended) - begun
    ended = time.perf_counter()


def main(run: Callable[[Bench], None]) -> None:
    """Run one benchmark as the command line says: the last line of each of their modules."""
    module = sys.modules[run.__module__]
    name = Path(str(module.__file__)).stem
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_options(parser)
    options = parser.parse_args()
    begun = count(options.json)
    for database in options.database or DATABASES:
        # A process for each: Django has one default database, and memory is measured.
        if (child := os.fork()) == 0:
            os._exit(_run_in_child(run, name, database, options))
        if os.waitpid(child, 0)[1]:
            sys.exit(f"{name} has failed on {database}")
    show(read(options.json)[begun:])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what all commands of this package take."""
    parser.add_argument("--database", action="append", choices=DATABASES, help="default: both")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument(
        "--json", type=Path, default=RESULTS / "results.jsonl", help="gets a line for each row"
    )


def bench_dir() -> Path:
    """Give the directory of what is measured: on the checkout's file system, unless told else."""
    path = Path(os.environ.get("BENCH_DIR") or RESULTS)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _run_in_child(run: Callable[[Bench], None], name: str, database: str, options: Any) -> int:
    # What the program tells its operators would be lost in it, and the table too.
    logging.disable(logging.WARNING)
    try:
        with ground(database, options.quick) as (url, scratch):
            bench = Bench(name, database, url, scratch, options)
            keep_imported()  # as the sentinel of workers does
            run(bench)
            add(options.json, bench.results)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def ground(database: str, quick: bool) -> Iterator[tuple[str, Path]]:
    """Make a directory and a migrated database, and turn Django to it."""
    scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=bench_dir()))
    try:
        with _postgres(quick) if database == "postgresql" else _sqlite(scratch) as url:
            use(Database.model_validate({"engine": url}))
            call_command("migrate", verbosity=0)
            yield url, scratch
            connections.close_all()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _sqlite(scratch: Path) -> Iterator[str]:
    yield f"sqlite:///{scratch / 'bench.sqlite3'}"


@contextlib.contextmanager
def _postgres(quick: bool) -> Iterator[str]:
    server = os.environ.get("BENCH_POSTGRES_URL") or servers.DEFAULT_POSTGRES
    name = f"endpoint_bench_{os.getpid()}"
    maintenance = psycopg2.connect(server)
    maintenance.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    with contextlib.closing(maintenance), maintenance.cursor() as cursor:
        cursor.execute("SELECT current_setting('fsync') = 'on'")
        if cursor.fetchone() != (True,) and not quick:
            sys.exit("This PostgreSQL server does not sync, which no comparison may rest on.")
        cursor.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{server.rpartition('/')[0]}/{name}"
        finally:
            connections.close_all()
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
