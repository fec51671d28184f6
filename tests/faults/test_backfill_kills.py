"""Backfill killed at every step, beside an ingester that opens what is new, and run again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from django.db import DatabaseError, connection, connections
from django.utils.module_loading import import_string

from buffer import steps
from buffer.hashing import ALGORITHMS
from buffer.models import Component, File, Refusal, Storage
from buffer.names import MARKER_NAME
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.opening import Opener
from ingest.statuses import Status
from tests.faults.dying import in_child, kill_at
from tests.tally import Tally

NAME = "gen2_file_events"
CATALOGUE = "tests.ingest.backfill_target.Catalogue"
#: Files, and whether the target has them.
FILES = {f"2020-12-31/{n % 2}/{n}.fits": n % 3 > 0 for n in range(7)}


class AtOnce:
    """Workers that do in this process what they are sent, before anything else happens."""

    def __init__(self, queue: str, count: int, **_: object) -> None:
        self.count = count
        self.wakeups = self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, session: str, *arguments: Any) -> None:
        import_string(session)(*arguments)

    def waiting(self) -> int:
        return 0

    def idle(self) -> int:
        return self.count

    def purge(self) -> None:
        pass

    def check(self) -> None:
        pass


class Night:
    """A storage area that was there before us, and what backfill makes of it.

    Parameters
    ----------
    place
        A directory for it.
    verify
        Ask the target too.
    """

    def __init__(self, place: Path, *, verify: bool) -> None:
        self.root, self.verify = place / "storage", verify
        self.summary, self.steps = place / "summary", place / "steps"
        for path in FILES:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(f"content of {path}")

    def begin(self) -> None:
        """Forget everything; to verify, somebody must have started the ingester before."""
        for model in (Ingestion, FileEvent, File, Ingester, Refusal, Component, Storage):
            model.objects.all().delete()
        (self.root / MARKER_NAME).unlink(missing_ok=True)
        self.summary.unlink(missing_ok=True)
        if self.verify:
            storage = Storage.objects.create(name="files", root=str(self.root))
            has = [path.rpartition("/")[2] for path, there in FILES.items() if there]
            section = {"plugin": {"name": CATALOGUE, "config": {"has": has}}}
            Ingester.objects.create(name=NAME, storage=storage, plugin=CATALOGUE, settings=section)

    def run(self, prepare: Callable[[], object] = lambda: None) -> int:
        """Run backfill in a process that `prepare` has prepared; give its wait status."""
        from django.conf import settings

        from ingest import backfill_loop, backfill_sources
        from ingest.backfill_config import BackfillFile

        config = BackfillFile.model_validate(
            {
                "database": {
                    "engine": "sqlite:////unused",
                    "tablenames": {"file": {"table": "files"}, "event": {"table": NAME}},
                },
                "backfill": {"storage": str(self.root), "sources": ["2020-12-31"]},
            }
        )

        def work() -> None:
            settings.INGEST_PLUGINS = [CATALOGUE]
            backfill_loop.Workers = AtOnce  # type: ignore[assignment, misc]
            backfill_sources.CHUNK_FILES = 2  # type: ignore[misc]
            prepare()
            done = backfill_loop.run_backfill(config, workers=2, verify=self.verify)
            self.summary.write_text(json.dumps({**done.counters, "complete": done.complete}))

        return in_child(work)

    def check(self) -> None:
        """Each row has its status, and no status but backfill's."""
        files = File.objects.count()
        assert Ingestion.objects.count() == files, "a file without a status: it looks like new"
        own = {Status.BACKFILL} | ({Status.SUCCESS, Status.FAILURE} if self.verify else set())
        assert set(Ingestion.objects.values_list("status", flat=True)) <= own
        for row in Ingestion.objects.select_related("last_event"):
            newest = FileEvent.objects.filter(file=row.file_id).order_by("id").last()
            assert row.last_event == newest and row.status == row.last_event.status, "I6"

    def check_end(self, before: int) -> None:
        """The second run found everything, and each file has one history."""
        self.check()
        rows = {file.path: file for file in File.objects.all()}
        assert set(rows) == set(FILES)
        for path, file in rows.items():
            content = f"content of {path}".encode()
            assert file.checksum == ALGORITHMS["blake3"](content).hexdigest()
            answer = Status.SUCCESS if FILES[path] else Status.FAILURE
            events = FileEvent.objects.filter(file=file).order_by("id")
            expected = [Status.BACKFILL] + ([answer] if self.verify else [])
            assert list(events.values_list("status", flat=True)) == expected, path
        told = json.loads(self.summary.read_text())
        expected_told = {"found": len(FILES), "added": len(FILES) - before, "tracked": before}
        assert told.items() >= {**expected_told, "failed": 0, "complete": True}.items(), told
        assert not Refusal.objects.unresolved().exists()
        for path in FILES:
            assert (self.root / path).read_text() == f"content of {path}"

    def names(self) -> list[str]:
        """Name the steps of a run that nobody disturbs."""
        self.begin()

        def write_down() -> None:
            file = self.steps.open("w", buffering=1)
            steps.reached = lambda name: print(name, file=file)  # type: ignore[assignment]

        assert self.run(write_down) == 0
        self.check_end(0)
        return self.steps.read_text().splitlines()


def open_all() -> None:
    """Do what an ingester does that runs beside backfill."""
    ingester = Ingester.objects.filter(name=NAME).first()
    if ingester is not None:
        opener = Opener(ingester, "opener")
        while opener.step():
            pass
        opener.sweep()


@contextlib.contextmanager
def opener_at_work() -> Iterator[None]:
    """Let another process open what is new, again and again."""
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        while os.getppid() != 1:
            with contextlib.suppress(DatabaseError):
                open_all()
            time.sleep(0.005)
        os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def make_night(transactional_db: None, tmp_path: Path) -> Iterator[Callable[[bool], Night]]:
    yield lambda verify: Night(tmp_path, verify=verify)
    # Views outlive the rows that a test's database loses.
    with connection.cursor() as cursor:
        for view in ("files", NAME):
            cursor.execute(f'DROP VIEW IF EXISTS "{view}"')


def kill_and_run_again(night: Night, number: int, *, beside: bool) -> bool:
    """Kill a run at a step, and let another end. Tells whether the first was killed."""
    night.begin()
    with opener_at_work() if beside else contextlib.nullcontext():
        status = night.run(kill_at(number))
        open_all()
        night.check()
        before = File.objects.count()
        assert night.run() == 0
    open_all()
    night.check_end(before)
    assert status <= 0
    return status < 0


@pytest.mark.parametrize("verify", [False, True], ids=["plain", "verify"])
def test_killed_at_each_kind_of_step(
    make_night: Callable[[bool], Night], verify: bool, tally: Tally
) -> None:
    night = make_night(verify)
    names = night.names()
    # The second time, so that something was done and something is left.
    some = {name: n for n, name in enumerate(names, 1) if names[:n].count(name) <= 2}
    wanted = {n for name, n in some.items() if not verify or "answers" in name}
    killed = sum(kill_and_run_again(night, number, beside=False) for number in sorted(wanted))
    assert killed == len(wanted)
    tally(f"backfill killed at a step, {connection.vendor}", killed)


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("verify", [False, True], ids=["plain", "verify"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside an ingester"])
def test_killed_at_every_step(
    make_night: Callable[[bool], Night], verify: bool, beside: bool, tally: Tally
) -> None:
    night = make_night(verify)
    numbers = range(1, len(night.names()) + 1)
    killed = sum(kill_and_run_again(night, number, beside=beside) for number in numbers)
    assert killed == len(numbers)
    tally(f"backfill killed at a step, {connection.vendor}", killed)
