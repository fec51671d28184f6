"""Anything in any order: files arrive and change, components work, die and start, time passes.

Every step is followed by a check of I1 to I6, and every run ends with a time in which nothing goes
wrong any more: then nothing may wait for ever, and every file must be where it belongs.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from django.db import connection
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from buffer import dialect
from buffer.models import File
from buffer.refusals import Refusals
from buffer.settling import Settling
from tests import hypothesis_profiles, invariants
from tests.faults import rest
from tests.faults.fake_target import BEHAVIOURS
from tests.faults.state_model import DELAY_S, World
from tests.tally import Tally

NAMES = st.sampled_from(["a.fits", "a.json", "b.fits"])
PLACES = st.builds("{}{}".format, st.sampled_from(["", "d/"]), NAMES)
#: Two of one size, and an empty one.
CONTENTS = st.sampled_from([b"one", b"two", b"three", b""])
FILES = st.dictionaries(PLACES, CONTENTS, max_size=4)
TWO = st.integers(0, 1)
PICK = st.integers(0, 20)
#: Points until a death; 0: none. A cycle with files has some forty.
DEATH = st.integers(0, 30)
MEANWHILE = [
    "it is taken for lost",
    "time passes",
    "sweep",
    "other worker",
    "other ingester",
    "finder",
    "rerun",
]


class Anything(RuleBasedStateMachine):
    """What can happen."""

    world: ClassVar[World]
    #: Over all runs: what was injected.
    injected: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world.reset()

    # Files

    @rule(source=TWO, files=FILES)
    def files_arrive(self, source: int, files: dict[str, bytes]) -> None:
        for place, content in files.items():
            path = self.world.sources[source] / place
            if path not in self.world.writers:
                self.world.put(path, content)

    @precondition(lambda self: self.world.arrivals())
    @rule(pick=PICK)
    def arrival_grows(self, pick: int) -> None:
        path = self._pick(pick)
        # Who writes on in a file that is stored under another name changes both: only the quiet
        # time protects against that.
        if path.stat().st_nlink == 1:
            self.world.append(path)

    @precondition(lambda self: self.world.arrivals())
    @rule(pick=PICK)
    def writer_opens_arrival(self, pick: int) -> None:
        path = self._pick(pick)
        if path not in self.world.writers and path.stat().st_nlink == 1:
            self.world.open(path)

    @precondition(lambda self: self.world.writers)
    @rule()
    def writers_close(self) -> None:
        for path in list(self.world.writers):
            self.world.close(path)

    @precondition(lambda self: self.world.arrivals())
    @rule(pick=PICK, name=NAMES)
    def arrival_is_renamed(self, pick: int, name: str) -> None:
        path = self._pick(pick)
        if not {path, path.with_name(name)} & self.world.writers.keys():
            self.world.rename(path, name)

    @precondition(lambda self: self.world.arrivals())
    @rule(pick=PICK)
    def arrival_is_deleted(self, pick: int) -> None:
        path = self._pick(pick)
        if path not in self.world.writers:
            self.world.delete(path)

    @precondition(lambda self: self.world.stored)
    @rule(pick=PICK, delete=st.booleans())
    def stored_file_is_hurt(self, pick: int, delete: bool) -> None:
        paths = sorted(self.world.stored.keys() - self.world.hurt)
        if paths:
            self.world.hurt_stored(paths[pick % len(paths)], delete=delete)
            self.injected["stored files hurt"] += 1

    @rule(place=PLACES, content=CONTENTS)
    def somebody_puts_a_file_into_storage(self, place: str, content: bytes) -> None:
        if not (self.world.root / place).exists() and not File.objects.filter(
            relpath=str(Path(place).parent).strip("."), filename=Path(place).name
        ):
            self.world.put_into_storage(place, content)

    # Time

    @rule(seconds=st.sampled_from([DELAY_S + 1, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    # Components

    @rule(finder=TWO, files=FILES, death=DEATH)
    def finder_takes_in(self, finder: int, files: dict[str, bytes], death: int) -> None:
        self.files_arrive(finder, files)
        self._watch(finder)
        with self.world.points.armed(death):
            self._cycle(finder)
        self._killed("finders killed", lambda: self.world.finders.__setitem__(finder, None))

    @rule(finder=TWO, files=FILES, at=st.integers(1, 30), pick=PICK, content=st.none() | CONTENTS)
    def arrival_changes_under_a_finder(
        self, finder: int, files: dict[str, bytes], at: int, pick: int, content: bytes | None
    ) -> None:
        def change() -> None:
            if self.world.arrivals() and (path := self._pick(pick)) not in self.world.writers:
                with self.world.points.others():
                    if content is None:
                        self.world.delete(path)
                    else:
                        self.world.put(path, content)
                self.injected["arrivals changed in mid-cycle"] += 1

        self.files_arrive(finder, files)
        self._watch(finder)
        with self.world.points.armed(at, change):
            self._cycle(finder)

    @rule(ingester=TWO, death=st.integers(0, 12))
    def ingester_opens(self, ingester: int, death: int) -> None:
        opener = self.world.openers[ingester]
        with self.world.points.armed(death):
            opener.step()
            opener.sweep()
        self._killed("openers killed", lambda: self.world.restart_opener(ingester))

    @rule(ingester=TWO, death=st.integers(0, 8))
    def ingester_sweeps(self, ingester: int, death: int) -> None:
        with self.world.points.armed(death):
            self.world.sweep(ingester)
            invariants.nothing_held_for_ever(swept=self.world.ingesters[ingester].pk)
        self._killed("sweeps killed", lambda: None)

    @rule(
        ingester=TWO,
        worker=TWO,
        death=st.integers(0, 25),
        script=st.lists(st.sampled_from(BEHAVIOURS), max_size=4),
        meanwhile=st.lists(st.sampled_from(MEANWHILE), max_size=4),
        down=st.sampled_from([False, False, False, True]),
    )
    def worker_works(
        self,
        ingester: int,
        worker: int,
        death: int,
        script: list[str],
        meanwhile: list[str],
        down: bool,
    ) -> None:
        self.world.openers[ingester].step()
        host = self.world.host(ingester, worker)
        host.script, host.down = list(script), down
        host.meanwhile = [self._meanwhile(what, ingester, worker) for what in meanwhile]
        with self.world.points.armed(death):
            self.world.work(ingester, worker)
        host.script, host.down, host.meanwhile = [], False, []
        self._killed("workers killed", lambda: self.world.workers.pop((ingester, worker)))

    @rule(
        ingester=TWO,
        worker=TWO,
        at=st.integers(1, 20),
        meanwhile=st.lists(st.sampled_from(MEANWHILE), min_size=1, max_size=4),
    )
    def others_work_between_two_steps_of_a_worker(
        self, ingester: int, worker: int, at: int, meanwhile: list[str]
    ) -> None:
        def others() -> None:
            self.injected["workers overtaken"] += 1
            for what in meanwhile:
                self._meanwhile(what, ingester, worker)()

        self.world.openers[ingester].step()
        with self.world.points.armed(at, others):
            self.world.work(ingester, worker)

    def _meanwhile(self, what: str, ingester: int, worker: int) -> Callable[[], None]:
        world = self.world

        def take_for_lost() -> None:
            world.pass_time(DELAY_S + 1)
            world.sweep(ingester)

        return {
            "it is taken for lost": take_for_lost,
            "time passes": lambda: world.pass_time(DELAY_S + 1),
            "sweep": lambda: world.sweep(ingester),
            "other worker": lambda: world.work(ingester, 1 - worker),
            "other ingester": lambda: world.work(1 - ingester, worker),
            "finder": lambda: self._cycle(0),
            "rerun": lambda: world.rerun(ingester),
        }[what]  # type: ignore[return-value]

    # Operators

    @rule(ingester=TWO)
    def operator_asks_for_another_attempt(self, ingester: int) -> None:
        self.world.rerun(ingester)

    @precondition(lambda self: File.objects.exists())
    @rule(ingester=TWO, pick=PICK)
    def operator_asks_by_sql(self, ingester: int, pick: int) -> None:
        ids = list(File.objects.order_by("id").values_list("id", flat=True))
        self.world.rerun_by_sql(ingester, ids[pick % len(ids)])

    @precondition(lambda self: self.world.foreign)
    @rule(pick=PICK, death=st.integers(0, 12))
    def backfill_records(self, pick: int, death: int) -> None:
        paths = sorted(self.world.foreign)
        with self.world.points.armed(death):
            self.world.backfill(paths[pick % len(paths)])
        self._killed("backfills killed", lambda: None)

    # What must hold

    @invariant()
    def promises_hold(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        rest.come_to_rest(self.world, self._cycle)
        self.world.check()
        rest.check_at_rest(self.world)

    def _pick(self, number: int) -> Path:
        paths = self.world.arrivals()
        return paths[number % len(paths)]

    def _watch(self, finder: int) -> None:
        """Have a finder see what there is, and give that time to settle."""
        self._cycle(finder)
        self.world.pass_time(DELAY_S + 1)

    def _cycle(self, number: int) -> None:
        finder = self.world.finder(number)
        cycle = finder.cycle(until=time.monotonic() + 60, stop=lambda: False)
        self.injected["files taken in or refused"] += cycle.done
        assert not cycle.blocked, cycle.blocked

    def _killed(self, what: str, forget: Callable[[], object]) -> None:
        if self.world.points.acted_at:
            self.injected[what] += 1
            forget()


@pytest.fixture
def world(
    transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        world = World(tmp_path, Path(elsewhere))

        def now() -> float:
            return world.now

        monkeypatch.setattr("buffer.finder.Settling", functools.partial(Settling, steady=now))
        monkeypatch.setattr("buffer.finder.Refusals", functools.partial(Refusals, steady=now))
        # Where several threads read, which of them dies would be chance.
        monkeypatch.setattr("buffer.opening.THREADS", 1)
        monkeypatch.setattr("ingest.claims.RENEW_EVERY_S", 0.0)
        monkeypatch.setattr("ingest.ledger.FLUSH_EVERY_S", 0.0)
        monkeypatch.setattr("ingest.ledger.LONGEST_FLUSH_S", 0.0)
        fast = "SET synchronous_commit = off"
        with connection.cursor() as cursor:
            cursor.execute(fast if dialect.is_postgres() else "PRAGMA synchronous = OFF")
        with world.points.watching(monkeypatch):
            yield world
        world.dispose()


def run(world: World, tally: Tally, count: int) -> None:
    class Machine(Anything):
        pass

    Machine.world, Machine.injected = world, Counter()
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(max_examples=hypothesis_profiles.examples(count), stateful_step_count=40),
    )
    for what, number in sorted(Machine.injected.items()):
        tally(f"state machine: {what}", number)
    assert sum(Machine.injected.values()) > 2 * count, Machine.injected


def test_anything_in_any_order(world: World, tally: Tally) -> None:
    run(world, tally, 20)


@pytest.mark.full
@pytest.mark.timeout(36_000)
def test_anything_in_any_order_for_long(world: World, tally: Tally) -> None:
    run(world, tally, 250)
