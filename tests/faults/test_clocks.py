"""Clocks that are set by an hour under running commands, and clocks that differ.

A small library is loaded into the commands and all their processes; a file says by how much their
wall clock is wrong, and a test changes it while they run. PostgreSQL and the file system keep the
true time, SQLite has the clock of whichever process asks it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models import F
from django.utils import timezone

from buffer import dialect
from buffer.broker import DatabaseBroker
from buffer.components import is_live, live
from buffer.models import Component, ComponentKind, File
from ingest import claims, sweeping, transitions
from ingest.claims import Lane
from ingest.models import Breaker, Ingester, Ingestion
from ingest.opening import Opener
from ingest.statuses import Status
from ingest.sweeping import Sweeper
from ingest.transitions import Step
from tests.system.conftest import installed
from tests.system.product import Product
from tests.tally import Tally
from tests.tools import need

HOUR_S = 3600.0
MakeFile = Callable[..., File]


class WrongClock:
    """A clock of some commands of a product.

    Parameters
    ----------
    product
        Whose.
    """

    def __init__(self, product: Product) -> None:
        library = product.root / "wrong_clock.so"
        source = Path(__file__).with_name("wrong_clock.c")
        command = [need("cc"), "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
        subprocess.run([*command, "-ldl", "-pthread"], check=True)
        self._file = product.root / "clock"
        self.environment = {"LD_PRELOAD": str(library), "WRONG_CLOCK": str(self._file)}
        self.set(0)

    def set(self, seconds: float) -> None:
        """Set it this far from the true time."""
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{seconds:.0f}\n", "utf-8")
        os.replace(draft, self._file)


@pytest.fixture
def product_on_postgresql(postgresql_database: str, tmp_path: Path) -> Iterator[Product]:
    yield from installed(postgresql_database, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S], ids=["forward", "back"])
def test_clock_set_under_finder_and_ingester(
    product: Product, seconds: float, tally: Tally
) -> None:
    clock = WrongClock(product)
    product.add_plugins()
    product.environment |= clock.environment
    finder = product.start("runfinder", product.finder_yaml(pause=0.05))
    product.wait(lambda: product.rows("SELECT id FROM buffer_storage"), "the storage is known")
    ingester = product.start("runingester", product.ingester_yaml(num_threads=1, batch_size=5))
    slowest = 0.0
    for number, offset in enumerate((0.0, seconds, 0.0)):
        clock.set(offset)
        begin = time.monotonic()
        for n in range(20):
            product.land(f"night{number}/{n}.fits")
        product.wait(
            lambda number=number: product.statuses().get("SUCCESS", 0) == 20 * (number + 1),  # type: ignore[misc]
            f"files that arrive {offset:+.0f} s off are ingested",
        )
        slowest = max(slowest, time.monotonic() - begin)
    shown = product.admin("status").succeeded()
    assert "silent" not in shown, shown
    finder.stops()
    ingester.stops()
    assert product.value("SELECT count(*) FROM ingest_fileevent WHERE status = 'UNKNOWN'") == 0
    assert product.value("SELECT count(*) FROM buffer_file") == 60
    product.check_at_rest()
    way = "forward" if seconds > 0 else "back"
    tally(f"clock set {way} by an hour and again, under finder and ingester", 2, slowest)


@pytest.mark.full
@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def test_workers_on_a_host_whose_clock_is_wrong(
    product_on_postgresql: Product, seconds: float, tally: Tally
) -> None:
    """The database is the only clock that both hosts have in common; SQLite is for one host."""
    product = product_on_postgresql
    clock = WrongClock(product)
    clock.set(seconds)
    product.run("runfinder", product.finder_yaml(), "--once").succeeded()
    for n in range(20):
        product.land(f"{n}.fits")
    product.run("runfinder", product.finder_yaml(), "--once").succeeded()
    workers = product.start("runworkers", DATABASE_URL=product.url, **clock.environment)
    begin = time.monotonic()
    ingester = product.start("runingester", product.ingester_yaml(), "--external-workers")
    product.wait(lambda: product.statuses().get("SUCCESS") == 20, "workers elsewhere get wake-ups")
    took = time.monotonic() - begin
    assert "silent" not in product.admin("status").succeeded()
    ingester.stops()
    workers.stops()
    product.check_at_rest()
    tally("clock of the workers' host an hour wrong", 1, took)


def test_slow_writer_while_the_file_servers_clock_is_behind(
    product_on_sqlite: Product, tally: Tally
) -> None:
    """Its files look an hour old as soon as they are there; nobody holds this one open."""
    product = product_on_sqlite
    clock = WrongClock(product)
    clock.set(HOUR_S)
    search = {"method": "scan", "delay": 2}
    product.environment |= clock.environment
    finder = product.start("runfinder", product.finder_yaml(search=search, pause=0.05))
    product.land("first.fits")
    product.wait(lambda: product.files_in(product.storage), "the first file is stored")
    slow = product.buffer / "slow.fits"
    for _ in range(15):
        with slow.open("ab") as file:
            file.write(b"part\n")
        time.sleep(0.2)
        assert "slow.fits" not in product.files_in(product.storage), "taken in before it settled"
    product.wait(
        lambda: "slow.fits" in product.files_in(product.storage), "the slow file is stored"
    )
    assert product.files_in(product.storage)["slow.fits"] == b"part\n" * 15
    finder.stops()
    tally("file server's clock an hour behind, slow writer", 1)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(-86400, marks=pytest.mark.full, id="1969"),
        pytest.param(0, id="1970"),
        pytest.param(4102444800, marks=pytest.mark.full, id="2100"),
    ],
)
def test_times_of_files_that_writers_have_set(
    product_on_sqlite: Product, moment: int, tally: Tally
) -> None:
    product = product_on_sqlite
    os.utime(product.land("odd.fits"), (moment, moment))
    product.run("runfinder", product.finder_yaml(), "--once").succeeded()
    assert [*product.files_in(product.storage)] == ["odd.fits"]
    assert not product.files_in(product.buffer)
    tally("file with a time of 1969, 1970 or 2100", 1)


@pytest.mark.full
def test_backfill_while_the_clock_is_set(product: Product, tally: Tally) -> None:
    clock = WrongClock(product)
    product.environment |= clock.environment
    for n in range(300):
        path = product.storage / f"old/{n}.fits"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"old")
    content = {"database": product.database("file_events")}
    content["backfill"] = {"storage": str(product.storage), "sources": ["old"]}
    backfill = product.start("backfill", product.write("backfill.yaml", content))
    steps = 0
    while backfill.running:
        clock.set((HOUR_S, 0, -HOUR_S, 0)[steps % 4])
        steps += 1
        time.sleep(0.3)
    backfill.ends().succeeded()
    assert product.statuses() == {"BACKFILL": 300}
    tally("clock set by an hour every 0.3 s, under backfill", steps)


# The database's own clock is set: what is in rows is an hour older, or newer, at once.


def set_database_clock(seconds: float) -> None:
    """Do as if it was set: all times that it has given are as far off in the other direction."""
    ago = timedelta(seconds=seconds)
    Ingestion.objects.update(
        changed_on=F("changed_on") - ago,
        lease_until=F("lease_until") - ago,
        next_attempt_on=F("next_attempt_on") - ago,
    )
    Component.objects.update(seen_on=F("seen_on") - ago)


@pytest.fixture
def skewed(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the database's clock, also for whoever reads it."""
    clock = dialect.clock

    def set_clock(seconds: float) -> None:
        set_database_clock(seconds)
        # The sweeper compares what the clock says with what it said.
        offset = timedelta(seconds=seconds)
        monkeypatch.setattr("ingest.sweeping.Sweeper._read", lambda _: clock() + offset)

    return set_clock


def claimed(ingester: Ingester, file: File) -> claims.Claim:
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    claim = claims.claim(ingester.pk, [Lane(Status.UNTRIED)], 10, "w")
    assert claim is not None
    step = Step(
        claim.files[0].ingestion_id, file.pk, Status.UNTRIED, claim.token, Status.PENDING, 1,
        keep=True,
    )  # fmt: skip
    assert transitions.apply(ingester.pk, [step])
    return claim


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S], ids=["forward", "back"])
def test_leases_when_the_databases_clock_is_set(
    ingester: Ingester, make_file: MakeFile, skewed: Callable[[float], None], seconds: float
) -> None:
    claim = claimed(ingester, make_file())
    sweeper = Sweeper(ingester.pk, "sweeper")
    sweeper.sweep()
    skewed(seconds)
    assert sweeper.sweep() == sweeping.Swept([], 0), "its worker lives"
    row = Ingestion.objects.get()
    left = (row.lease_until - dialect.clock()).total_seconds()  # type: ignore[operator]
    assert 20 < left <= claims.LEASE_S, "a lost worker's file would wait longer than a lease"
    assert claims.renew(claim) == 1
    set_database_clock(claims.LEASE_S + 1)
    assert sweeper.sweep().unknown == [row.file_id], "its worker is lost after all"


def test_lease_of_before_a_step_back_that_nobody_saw(
    ingester: Ingester, make_file: MakeFile
) -> None:
    claimed(ingester, make_file())
    set_database_clock(-HOUR_S)
    Sweeper(ingester.pk, "sweeper").sweep()
    set_database_clock(claims.LEASE_S + 1)
    assert len(Sweeper(ingester.pk, "sweeper").sweep().unknown) == 1


def test_retry_is_not_an_hour_late_after_a_step_back(
    ingester: Ingester, make_file: MakeFile, skewed: Callable[[float], None]
) -> None:
    file = make_file()
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    row = Ingestion.objects.get()
    sweeper = Sweeper(ingester.pk, "sweeper")
    sweeper.sweep()
    due = timezone.now() + timedelta(seconds=30)
    step = Step(row.pk, file.pk, Status.UNTRIED, None, Status.FAILURE, 1, next_attempt_on=due)
    assert transitions.apply(ingester.pk, [step])
    skewed(-HOUR_S)
    sweeper.sweep()
    lanes = [Lane(Status.FAILURE, due=True)]
    assert not claims.waiting(ingester.pk, lanes), "no storm either"
    set_database_clock(31)
    assert claims.waiting(ingester.pk, lanes)


def test_probe_is_not_an_hour_late_after_a_step_back(ingester: Ingester) -> None:
    later = dialect.clock() + timedelta(seconds=HOUR_S)
    Breaker.objects.create(ingester=ingester, opened_on=later, probe_on=later)
    Sweeper(ingester.pk, "sweeper").sweep()
    assert Breaker.objects.get().probe_on <= dialect.clock()  # type: ignore[operator]


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def test_retry_asked_for_by_a_host_whose_clock_is_wrong(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    file, now = make_file(), timezone.now
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    row = Ingestion.objects.get()
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=seconds))
    due = timezone.now() + timedelta(seconds=30)
    step = Step(row.pk, file.pk, Status.UNTRIED, None, Status.FAILURE, 1, next_attempt_on=due)
    assert transitions.apply(ingester.pk, [step])
    row.refresh_from_db()
    left = (row.next_attempt_on - dialect.clock()).total_seconds()  # type: ignore[operator]
    assert 20 < left <= 31


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S], ids=["forward", "back"])
def test_killed_component_is_not_alive_for_an_hour(db: None, seconds: float) -> None:
    Component.objects.create(
        kind=ComponentKind.WORKERS, subject="s", host="h", pid=1, seen_on=dialect.clock()
    )
    assert live(ComponentKind.WORKERS).exists()
    set_database_clock(seconds)
    assert not live(ComponentKind.WORKERS).exists()
    assert not is_live(Component.objects.get(), dialect.clock())


def test_dead_take_in_of_a_finder_whose_clock_is_ahead(
    ingester: Ingester, make_file: MakeFile
) -> None:
    make_file(stored_on=None, added_on=timezone.now() + timedelta(seconds=HOUR_S))
    make_file()
    now = 0.0
    opener = Opener(ingester, "opener", steady=lambda: now)
    assert opener.step() == 0
    now = 601.0
    assert opener.step() == 2


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def test_wake_up_from_a_host_whose_clock_is_wrong(
    db: None, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    now = timezone.now
    sender, reader = DatabaseBroker(list_key="q"), DatabaseBroker(list_key="q")
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=seconds))
    sender.enqueue("payload")
    assert sender.queue_size() == 1
    monkeypatch.undo()
    ((key, payload),) = reader.dequeue()
    assert payload == "payload"
    for offset in (seconds, 0.0):
        monkeypatch.setattr(timezone, "now", lambda o=offset: now() + timedelta(seconds=o))
        assert (sender.queue_size(), sender.lock_size()) == (0, 1)
        assert not sender.dequeue(), "it is being worked on"
    sender.acknowledge(key)
    assert sender.lock_size() == 0
