"""Stored files, ingesters that have them before them, and processes that begin together."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from django.db import connections
from django.utils import timezone

from benchmarks.harness import Bench
from buffer import storages
from buffer.models import File, Storage
from ingest import claims
from ingest.claims import Lane
from ingest.config import IngesterSection
from ingest.models import Ingester, Ingestion
from ingest.opening import Opener
from ingest.statuses import Status
from ingest.targets import Run
from ingest.worker import Worker

PER_DIRECTORY: Final = 1000
_fork = multiprocessing.get_context("fork")

#: Makes its process ready, gives what it is to do, and clears up; only what it does is timed.
Prepare = Callable[[], AbstractContextManager[Callable[[], None]]]


class Ground:
    """A storage area with files that are known as stored.

    Parameters
    ----------
    bench : `Bench`
        Whose database and scratch directory are used.
    """

    def __init__(self, bench: Bench) -> None:
        self.root = bench.directory("storage")
        self.storage: Storage = storages.register(self.root.name.replace("-", "_"), self.root)
        self._targets = 0

    def add(self, count: int, write: Callable[[Path, int], object] | None = None) -> None:
        """Add stored files; of one byte, if nothing else is to be written."""
        now = timezone.now()
        for start in range(0, count, PER_DIRECTORY):
            directory = self.root / f"{start // PER_DIRECTORY:06d}"
            directory.mkdir()
            rows = []
            for number in range(start, min(start + PER_DIRECTORY, count)):
                path = directory / f"{number:09d}.fits"
                if write is None:
                    path.write_bytes(b"x")
                else:
                    write(path, number)
                rows.append(
                    File(
                        storage=self.storage, relpath=directory.name, filename=path.name,
                        checksum=f"{number:064x}", checksum_algorithm="blake3",
                        size_bytes=path.stat().st_size, added_on=now, stored_on=now,
                    )
                )  # fmt: skip
            File.objects.bulk_create(rows)
        os.sync()

    def ingester(self) -> Ingester:
        """Make a target that has every file before it, as UNTRIED."""
        self._targets += 1
        ingester = Ingester.objects.create(
            name=f"{self.storage.name}-{self._targets}", storage=self.storage
        )
        opener = Opener(ingester, "benchmark")
        while opener.has_new():
            opener.step()
        return ingester

    def run(self, ingester: Ingester, plugin: str = "NullIngest", **section: Any) -> Run:
        """Begin a run of an ingester, as its command does."""
        config = section.pop("config", {})
        made = IngesterSection.model_validate(
            {"plugin": {"name": plugin, "config": config}, **section}
        )
        return Run.begin(ingester, made)

    def is_done(self, name: str) -> bool:
        """Tell whether an ingester has nothing left to do; costs the same with any number of files.

        Parameters
        ----------
        name : `str`
            The ingester's name; it may not have begun.
        """
        # Of all files: of one storage area's, PostgreSQL would sort them each time.
        newest = File.objects.order_by("-pk").values_list("pk", flat=True)[0]
        ingester = Ingester.objects.filter(name=name, watermark__gte=newest).first()
        return (
            ingester is not None
            and not claims.waiting(ingester.pk, [Lane(Status.UNTRIED)])
            and not claims.anything_held(ingester.pk)
        )

    def check(self, ingester: Ingester) -> int:
        """Check that every file is ingested; give their number."""
        rows = Ingestion.objects.filter(ingester=ingester)
        count, good = rows.count(), rows.filter(status=Status.SUCCESS).count()
        if count == 0 or count != good:
            raise RuntimeError(f"of {count} files, {good} are ingested")
        return count


def worker(run: Run) -> Prepare:
    """Prepare a worker as a session of ``runingester`` has it: to work until nothing waits."""

    @contextmanager
    def prepare() -> Iterator[Callable[[], None]]:
        made = Worker(run, stopping=lambda: False, beat=lambda: None)
        made._host.start()

        def work() -> None:
            while made.step():
                pass

        yield work
        made.close()

    return prepare


def together(prepare: Prepare, processes: int) -> float:
    """Have processes do their work at once; give the seconds until the last is through."""
    connections.close_all()
    line = _fork.Barrier(processes + 1)
    # Of a clock that is the same in all processes.
    ends = _fork.Array("d", processes, lock=False)

    def body(number: int) -> None:
        try:
            with prepare() as work:
                line.wait(120)
                work()
                ends[number] = time.monotonic()
        except BaseException:
            line.abort()
            raise
        finally:
            connections.close_all()

    children = [_fork.Process(target=body, args=[number]) for number in range(processes)]
    for child in children:
        child.start()
    line.wait(120)
    begun = time.monotonic()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        raise RuntimeError("a process failed")
    return float(max(ends) - begun)
