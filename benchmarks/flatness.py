"""Does the present cost the same with 10 thousand and with 10 million files behind it?

The program's own functions do their work on a small history and on a big one, in turns; what is
compared is the database's processor time. Whatever they write is rolled back, and the databases are
kept for the next run: 12 GB for 10 million files with 30 million events (``--drop`` removes them).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from django.db import connection, transaction
from django.test.utils import setup_test_environment

from benchmarks import history
from benchmarks.flatness_steps import STEPS, TIMES
from benchmarks.harness import DATABASES, add_options
from benchmarks.rows import Result, add, show

SMALL: Final = 10_000
BIG: Final = {"postgresql": 10_000_000, "sqlite": 1_000_000}
ROUNDS: Final = 5
#: Of each step in each round, when it is only to be seen that it works.
TIMES_QUICK: Final = 3
#: What takes longer than this altogether is done no more often; ms.
ENOUGH_MS: Final = 5000.0
#: What a loop does again and again, and may cost; ms.
LOOPS: Final = 10.0
MOST_RATIO: Final = 1.5


def main() -> None:
    """Make the histories, compare, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flatness", description=__doc__)
    add_options(parser)
    parser.add_argument("--files", type=int, help="of the big history; default: 10 million, 1")
    parser.add_argument("--drop", action="store_true", help="remove the histories, do no more")
    options = parser.parse_args()
    setup_test_environment()
    for database in options.database or DATABASES:
        big = options.files or (20_000 if options.quick else BIG[database])
        sizes = (SMALL, big)
        if options.drop:
            for files in sizes:
                history.drop(database, files)
            continue
        urls = [history.ensure(database, files) for files in sizes]
        results = _compare(database, sizes, urls, options.rounds or ROUNDS, quick=options.quick)
        show(results)
        add(options.json, results)
        history.turn_to(urls[1])
        _show_sizes(big)


def _compare(
    database: str, sizes: tuple[int, int], urls: list[str], rounds: int, *, quick: bool
) -> list[Result]:
    values: dict[str, tuple[list[float], list[float]]] = {}
    for number in range(rounds):
        for side in (0, 1) if number % 2 else (1, 0):
            history.turn_to(urls[side])
            root = history.storage_area(database, sizes[side])
            for what, milliseconds in _measure(root, TIMES_QUICK if quick else TIMES):
                values.setdefault(what, ([], []))[side].append(milliseconds)
    rows = []
    for what, (small, big) in values.items():
        row = Result(
            f"{what}: {sizes[1]:,} / {sizes[0]:,} files", "ms", big, small, at_most=MOST_RATIO,
            database=database, bench="flatness", quick=quick,
        )  # fmt: skip
        rows.append(row)
        if what.startswith(("finder", "ingester")):
            rows.append(replace(row, what=f"{what}: {sizes[1]:,} files", ideal=[], at_most=LOOPS))
    return rows


def _measure(root: Path, times: int) -> Iterator[tuple[str, float]]:
    """Do each step some times; give the median of the database's time, ms."""
    for what, step in STEPS:
        with transaction.atomic(), step(root) as do:
            taken = [do()]
            while len(taken) < times and sum(taken) < ENOUGH_MS:
                taken.append(do())
            transaction.set_rollback(True)
        yield what, statistics.median(taken)


def _show_sizes(files: int) -> None:
    """Print what a row of each table takes, indexes and all."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            name = str(connection.settings_dict["NAME"])
            print(f"{Path(name).stat().st_size / files:,.0f} bytes for each file and its history")
            return
        for table, rows in (
            ("buffer_file", files),
            ("ingest_ingestion", files),
            ("ingest_fileevent", files * history.EVENTS),
        ):
            cursor.execute(
                "SELECT pg_table_size(%s::regclass), pg_indexes_size(%s::regclass)", [table, table]
            )
            data, indexes = cursor.fetchone()
            print(f"{table}: {data / rows:,.0f} + {indexes / rows:,.0f} bytes a row (indexes)")


if __name__ == "__main__":
    main()
