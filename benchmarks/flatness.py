"""Does the present cost the same with 10 thousand and with 10 million files behind it?

The program's own functions do their work on a small history and on a big one, in turns; what is
compared is the database's processor time. Whatever they write is rolled back, and the databases are
kept for the next run: 12 GB for 10 million files with 30 million events (``--drop`` removes them).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import setup_test_environment
from django.utils import timezone

from benchmarks import history
from benchmarks.harness import DATABASES, Result, add, add_options, show
from buffer.components import Heartbeat
from buffer.finder import Finder
from buffer.finder_config import Finder as FinderSection
from buffer.models import ComponentKind, File, Storage
from ingest import claims, targets, transitions
from ingest.loop import Loop
from ingest.models import Ingester
from ingest.opening import Opener
from ingest.statuses import Status
from ingest.templatetags import endpoint

SMALL: Final = 10_000
BIG: Final = {"postgresql": 10_000_000, "sqlite": 1_000_000}
ROUNDS: Final = 5
#: Of each step in each round; when it is only to be seen that it works.
TIMES: Final = 30
TIMES_QUICK: Final = 3
#: What takes longer than this altogether is done no more often; ms.
ENOUGH_MS: Final = 5000.0
#: What a loop does again and again, and may cost; ms.
LOOPS: Final = 10.0
MOST_RATIO: Final = 1.5

_rows = itertools.count()


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
    for what, step in (
        ("finder, start and first cycle", _finder_start),
        ("finder, idle cycle", _finder_idle),
        ("ingester, idle cycle", partial(_ingester_idle, due=False)),
        ("ingester, idle cycle with the sweeps of every 5 s", partial(_ingester_idle, due=True)),
        ("ingester, 100 files opened", _opened),
        ("claim of 100", _claimed),
        ("100 attempts begun and ended", _attempted),
        ("RERUN by SQL, noticed and claimed", _rerun),
        ("the admin's front page", _front_page),
    ):
        with transaction.atomic(), step(root) as do:
            taken = [do()]
            while len(taken) < times and sum(taken) < ENOUGH_MS:
                taken.append(do())
            transaction.set_rollback(True)
        yield what, statistics.median(taken)


#: Does a step once, after preparing it; gives ms.
Step = Callable[[], float]


def _timed(do: Callable[[], object]) -> float:
    """Do something; give the database's processor time, ms.

    By the clock, whoever else is at work on the machine would be measured too. SQLite works in this
    process. A server elsewhere is timed by the clock all the same.
    """
    begun = _database_s()
    do()
    # It has nothing to do at all in some steps; a ratio needs something.
    return max(0.01, 1000 * (_database_s() - begun))


def _database_s() -> float:
    if connection.vendor == "sqlite":
        return time.thread_time()
    connection.ensure_connection()
    try:
        times = Path(f"/proc/{connection.connection.info.backend_pid}/schedstat").read_text("ascii")
    except OSError:
        return time.perf_counter()
    return int(times.split()[0]) / 1e9


@contextmanager
def _finder_start(root: Path) -> Iterator[Step]:
    with tempfile.TemporaryDirectory() as source:
        yield lambda: _timed(lambda: _cycle(_finder(root, source)))


@contextmanager
def _finder_idle(root: Path) -> Iterator[Step]:
    with tempfile.TemporaryDirectory() as source:
        finder = _finder(root, source)
        yield lambda: _timed(lambda: _cycle(finder))


def _finder(root: Path, source: str) -> Finder:
    section = {
        "source": source,
        "storage": str(root),
        "actions": {"standard": "Move"},
        "search": {"method": "scan", "delay": 0},
    }
    return Finder(FinderSection.model_validate(section), Storage.objects.get())


def _cycle(finder: Finder) -> None:
    cycle = finder.cycle(until=time.monotonic() + 60, stop=lambda: False)
    if not cycle.quiet:
        raise RuntimeError(f"it was not idle: {cycle}")


def _run() -> targets.Run:
    return targets.Run.begin(Ingester.objects.get(), history.configuration().ingester)


@contextmanager
def _ingester_idle(root: Path, *, due: bool) -> Iterator[Step]:
    ingester = Ingester.objects.get()
    heartbeat = Heartbeat.begin(ComponentKind.INGESTER, ingester.name)
    loop = Loop(ingester, _run(), heartbeat, once=False)

    def cycle() -> None:
        if loop._cycle() or loop.waiting():
            raise RuntimeError("it was not idle")

    def step() -> float:
        loop._next_look = 0.0
        if due:
            heartbeat._next = loop._next_sweep = 0.0
        return _timed(cycle)

    yield step


@contextmanager
def _opened(root: Path) -> Iterator[Step]:
    opener = Opener(Ingester.objects.get(), "bench")

    def step() -> float:
        _new_files(100)
        return _timed(opener.step)

    yield step


@contextmanager
def _claimed(root: Path) -> Iterator[Step]:
    run = _run()
    lanes = run.lanes()
    _untried(100 * TIMES)

    def claim() -> None:
        found = claims.claim(run.ingester_id, lanes, 100, "bench")
        if found is None or len(found.files) != 100:
            raise RuntimeError("there were not 100 to claim")

    yield lambda: _timed(claim)


@contextmanager
def _attempted(root: Path) -> Iterator[Step]:
    run = _run()
    _untried(100 * TIMES)

    def step() -> float:
        claim = claims.claim(run.ingester_id, run.lanes(), 100, "bench")
        assert claim is not None

        def steps(was: Status, status: Status) -> list[transitions.Step]:
            return [
                transitions.Step(file.ingestion_id, file.file_id, was, claim.token, status, 1,
                                 keep=status == Status.PENDING)
                for file in claim.files
            ]  # fmt: skip

        def attempt() -> None:
            for was, status in (
                (Status.UNTRIED, Status.PENDING),
                (Status.PENDING, Status.SUCCESS),
            ):
                if len(transitions.apply(run.ingester_id, steps(was, status))) != 100:
                    raise RuntimeError("some were not changed")

        return _timed(attempt)

    yield step


@contextmanager
def _rerun(root: Path) -> Iterator[Step]:
    run = _run()
    lanes = run.lanes()
    files = itertools.count(1, 97)

    def rerun() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO history_events (start_time, status, files_id)"
                " VALUES (CURRENT_TIMESTAMP, 'RERUN', %s)",
                [next(files)],
            )
        if not claims.waiting(run.ingester_id, lanes):
            raise RuntimeError("it was not noticed")
        claims.claim(run.ingester_id, lanes, 1, "bench")

    yield lambda: _timed(rerun)


@contextmanager
def _front_page(root: Path) -> Iterator[Step]:
    client = Client()
    client.force_login(User.objects.create_superuser("bench"))

    def step() -> float:
        # Not as it was a moment ago; and by the clock, since the server counts with several hands.
        setattr(endpoint, "_last", None)  # noqa: B010
        begun = time.perf_counter()
        if client.get("/admin/").status_code != 200:
            raise RuntimeError("there was no front page")
        return 1000 * (time.perf_counter() - begun)

    yield step


def _new_files(count: int) -> list[int]:
    now, storage = timezone.now(), Storage.objects.get()
    files = File.objects.bulk_create(
        File(
            storage=storage, relpath="today", filename=f"new_{next(_rows):010d}.fits",
            checksum="0" * 64, checksum_algorithm="blake3", size_bytes=1000, stored_on=now,
        )
        for _ in range(count)
    )  # fmt: skip
    return [file.pk for file in files]


def _untried(count: int) -> None:
    transitions.create(Ingester.objects.get().pk, _new_files(count), Status.UNTRIED)


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
