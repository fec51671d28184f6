"""What the loops and the front page do again and again, and what the database takes for it.

A step prepares, in a transaction that is rolled back afterwards, and gives what does it once.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from benchmarks import history
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

#: How often each step is done, at most.
TIMES: Final = 30

_rows = itertools.count()

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


#: What each step is called, and what prepares it in a storage area.
STEPS: Final[Sequence[tuple[str, Callable[[Path], AbstractContextManager[Step]]]]] = (
    ("finder, start and first cycle", _finder_start),
    ("finder, idle cycle", _finder_idle),
    ("ingester, idle cycle", partial(_ingester_idle, due=False)),
    ("ingester, idle cycle with the sweeps of every 5 s", partial(_ingester_idle, due=True)),
    ("ingester, 100 files opened", _opened),
    ("claim of 100", _claimed),
    ("100 attempts begun and ended", _attempted),
    ("RERUN by SQL, noticed and claimed", _rerun),
    ("the admin's front page", _front_page),
)
