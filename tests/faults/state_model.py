"""The world of the state machine: two buffers, a storage area, two targets, and a clock.

What the operator's and the observatory's hands do to it is here, and what must then be true; which
of it happens in which order is the business of the machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.models import F
from django.utils import timezone

from buffer import dialect, storages
from buffer.finder import Finder
from buffer.finder_config import Finder as FinderSection
from buffer.models import File, Refusal
from buffer.names import MARKER_NAME
from buffer.sqlviews import drop as drop_view
from ingest import rerun as reruns
from ingest import sqlviews, sweeping
from ingest.backfill import BackfillRun, Recorder
from ingest.config import IngesterSection
from ingest.models import Breaker, FileEvent, Ingester, Ingestion
from ingest.opening import Opener
from ingest.targets import Run
from ingest.worker import TargetUnavailable, Worker
from tests import invariants
from tests.faults.fake_target import FakeHost, FakeTarget
from tests.faults.points import Points

#: Longer than a test may take by the true clock, which is that of the files' times.
DELAY_S = 60.0
NULL = "NullIngest"


class World:
    """Everything, in one process.

    Parameters
    ----------
    here, elsewhere
        Directories on two file systems.
    """

    def __init__(self, here: Path, elsewhere: Path) -> None:
        self.points = Points()
        self.now = 0.0
        # From the second one files must be copied.
        self.sources = [here / "buffer", elsewhere / "buffer"]
        self.root, self.aside = here / "store", here / "aside"
        for directory in (*self.sources, self.root, self.aside):
            directory.mkdir()
        self.storage = storages.register("files", self.root, fsync=False)
        self.ingesters = [
            Ingester.objects.create(name=name, storage=self.storage, plugin=NULL)
            for name in ("telling_events", "silent_events")
        ]
        for ingester in self.ingesters:
            sqlviews.ensure(ingester)
        self.reset()

    def dispose(self) -> None:
        """Leave nothing behind that the end of a test would not remove."""
        for ingester in self.ingesters:
            drop_view(ingester.name, "ingest_fileevent")
        # Settings of the session are not for others.
        connection.close()

    def reset(self) -> None:
        """Begin anew, with nothing."""
        for model in (FileEvent, Ingestion, Breaker, Refusal, File):
            model.objects.all()._raw_delete("default")  # type: ignore[attr-defined]
        Ingester.objects.update(watermark=0)
        for directory in (*self.sources, self.root, self.aside):
            for entry in directory.iterdir():
                if entry.name != MARKER_NAME:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        #: Contents that must not be lost.
        self.owed: set[bytes] = set()
        #: What was stored when it was last looked at, by path.
        self.stored: dict[str, bytes] = {}
        #: Paths in storage that somebody else has put there, or has hurt.
        self.foreign: set[str] = set()
        self.hurt: set[str] = set()
        self.writers: dict[Path, int] = {}
        self.finders: list[Finder | None] = [None, None]
        self.openers = [Opener(self._fresh(number), "opener") for number in range(2)]
        self.targets = [FakeTarget(), FakeTarget()]
        self.workers: dict[tuple[int, int], Worker] = {}

    def _fresh(self, number: int) -> Ingester:
        return Ingester.objects.get(pk=self.ingesters[number].pk)

    # Hands from outside

    def arrivals(self) -> list[Path]:
        """Give the files in the buffers, in a fixed order."""
        found = [path for source in self.sources for path in source.rglob("*") if not path.is_dir()]
        return sorted(found, key=str)

    def put(self, path: Path, content: bytes) -> None:
        """Put a file there whole, in place of what has its name."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.XXXXXX")
        draft.write_bytes(content)
        draft.rename(path)
        self.owed.add(content)
        self._owe_what_is_left()

    def append(self, path: Path) -> None:
        """Write on in a file."""
        with path.open("ab") as file:
            file.write(b"+")
        self.owed.add(path.read_bytes())
        self._owe_what_is_left()

    def open(self, path: Path) -> None:
        """Hold a file open for writing."""
        self.writers[path] = os.open(path, os.O_WRONLY)

    def close(self, path: Path) -> None:
        """Let go of a file that was held open."""
        os.close(self.writers.pop(path))

    def rename(self, path: Path, name: str) -> None:
        """Rename an arrival; what has that name is lost."""
        path.rename(path.with_name(name))
        self._owe_what_is_left()

    def delete(self, path: Path) -> None:
        """Take an arrival away."""
        with self.points.others():
            path.unlink(missing_ok=True)
        self._owe_what_is_left()

    def _owe_what_is_left(self) -> None:
        """Nobody owes what an outsider has just destroyed.

        But what a component had got already counts, whether or not it is recorded.
        """
        there = set(invariants.stored_contents(self.root).values())
        for directory in (*self.sources, self.aside):
            there |= set(invariants.contents(directory).values())
        self.owed &= there

    def hurt_stored(self, path: str, *, delete: bool) -> None:
        """Damage or delete a stored file, as nobody should."""
        victim = self.root / path
        if delete:
            victim.unlink()
        else:
            # A new file: the arrival may still be a link to the old one.
            content = victim.read_bytes()
            victim.unlink()
            victim.write_bytes(content[:-1] + b"#")
        self.hurt.add(path)
        self._owe_what_is_left()

    def put_into_storage(self, path: str, content: bytes) -> None:
        """Put a file into storage that nobody knows of."""
        self.put(self.root / path, content)
        self.foreign.add(path)

    def pass_time(self, seconds: float) -> None:
        """Let time pass for everybody: what is in rows by the database's clock grows older."""
        self.now += seconds
        ago = timedelta(seconds=seconds)
        Ingestion.objects.update(
            changed_on=F("changed_on") - ago,
            lease_until=F("lease_until") - ago,
            next_attempt_on=F("next_attempt_on") - ago,
        )
        Breaker.objects.update(opened_on=F("opened_on") - ago, probe_on=F("probe_on") - ago)
        File.objects.update(added_on=F("added_on") - ago)

    # Components

    def restart_opener(self, number: int) -> None:
        """Have another ingester's loop go on."""
        self.openers[number] = Opener(self._fresh(number), "opener")

    def finder(self, number: int) -> Finder:
        """Give a finder that runs, or start one."""
        found = self.finders[number]
        if found is None:
            section = {
                "source": str(self.sources[number]),
                "storage": str(self.root),
                "actions": {"standard": "Move", "alternative": ["Delete", "Move"][number]},
                "duplicates": str(self.aside),
                "search": {"method": ["scan", "watch"][number], "delay": DELAY_S},
                "fsync": False,
            }
            if not number:
                del section["duplicates"]
            found = Finder(FinderSection.model_validate(section), self.storage)
            self.finders[number] = found
        return found

    def worker(self, ingester: int, number: int) -> Worker:
        """Give a worker that runs, or start one."""
        key = (ingester, number)
        if key not in self.workers:
            retry = {"max_attempts": 3, "backoff": 30, "statuses": ["FAILURE", "UNKNOWN"]}
            keys: dict[str, Any] = {"batch_size": 3} if ingester else {"batch_size": 2}
            section = IngesterSection.model_validate(
                {"plugin": {"name": NULL}, **keys, **({} if ingester else {"retry": retry})}
            )
            run = Run.begin(self.ingesters[ingester], section)
            worker = Worker(run, stopping=lambda: False, beat=lambda: None)
            worker._host = FakeHost(  # type: ignore[assignment]
                self.targets[ingester],
                self.points,
                in_order=bool(number),
                has_contains=not ingester,
            )
            self.workers[key] = worker
        return self.workers[key]

    def host(self, ingester: int, number: int) -> FakeHost:
        """Give the plugin host of a worker."""
        host = self.worker(ingester, number)._host
        assert isinstance(host, FakeHost)
        return host

    def work(self, ingester: int, number: int) -> int:
        """Have a worker take one batch."""
        attempts = dict(Ingestion.objects.values_list("pk", "attempts"))
        try:
            return self.worker(ingester, number).step()
        except TargetUnavailable:
            assert attempts == dict(Ingestion.objects.values_list("pk", "attempts"))
            return 0

    def sweep(self, ingester: int) -> None:
        """Sweep, and check that it left alone what a living worker holds."""
        late = dialect.clock() + timedelta(seconds=1)
        held = Ingestion.objects.filter(lease_until__gt=late).values_list("pk", "claim", "status")
        before = set(held)
        sweeping.sweep(self.ingesters[ingester].pk, "sweeper")
        lost = before - set(Ingestion.objects.values_list("pk", "claim", "status"))
        assert not lost, f"I5: taken from workers that hold them: {lost}"

    def rerun(self, ingester: int) -> None:
        """Ask for another attempt of everything that an ingester knows."""
        reruns.rerun(Ingestion.objects.filter(ingester=self.ingesters[ingester]), user="ops")

    def rerun_by_sql(self, ingester: int, file_id: int) -> None:
        """Ask for another attempt as the quickstart shows it; of a claimed file in vain."""
        name = self.ingesters[ingester].name
        rows = Ingestion.objects.filter(ingester=self.ingesters[ingester], file=file_id)
        claimed = rows.filter(claim__isnull=False).exists()
        refused = False
        with contextlib.suppress(DatabaseError), connection.cursor() as cursor:
            refused = True
            with transaction.atomic():
                cursor.execute(
                    f"INSERT INTO {name} (start_time, status, files_id)"
                    " VALUES (CURRENT_TIMESTAMP, 'RERUN', %s)",
                    [file_id],
                )
            refused = False
        stored = File.objects.stored().filter(pk=file_id).exists()
        assert refused == (claimed or not stored)

    def backfill(self, path: str) -> None:
        """Record a file that lies in storage."""
        run = BackfillRun(
            storage_id=self.storage.pk,
            ingester_id=self.ingesters[1].pk,
            root=str(self.root),
            fresh_target=False,
            began_on=timezone.now(),
        )
        Recorder(run).record([path], lambda _: None)

    # What must hold

    def check(self) -> None:
        """I1 to I6."""
        invariants.nothing_lost(self.owed, (*self.sources, self.root, self.aside))
        hurt = self.hurt
        invariants.rows_have_bytes(self.root, untracked=self.foreign, hurt=hurt)
        self.stored |= invariants.nothing_changed(self.root, self.stored, hurt=hurt)
        invariants.nothing_held_for_ever()
        invariants.one_outcome_for_a_claim()
        invariants.status_is_newest_event()
        for path in self.writers:
            assert path.exists(), f"{path.name} was taken while somebody had it open for writing"
