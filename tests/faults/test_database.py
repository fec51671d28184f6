"""A PostgreSQL server that goes away, hangs, fills up or throws us out, in the middle of the work.

Its file descriptors, volumes and cables are real, and the commands are those that operators run.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.faults import postgres
from tests.faults.cutting import Relay
from tests.faults.night import ALLOWED_S, Night
from tests.faults.postgres import ip, prepared, product_url, server
from tests.servers import Postgres
from tests.system.conftest import execute, installed
from tests.system.product import Product
from tests.tally import Tally
from tests.tools import need_root

__all__ = ["prepared", "server"]

# One process makes the data that all of them copy.
pytestmark = pytest.mark.xdist_group("database faults")

#: How long it is away.
OUTAGE_S = 10.0
#: Files that two workers may hold.
HELD = 2 * 10

Fault = Callable[[Postgres], contextlib.AbstractContextManager[None]]


@pytest.fixture
def product(server: Postgres, tmp_path: Path) -> Iterator[Product]:
    """A product on a server of the test's own."""
    yield from installed(product_url(server), tmp_path)


@contextlib.contextmanager
def stopped(server: Postgres) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def crashed(server: Postgres) -> Iterator[None]:
    server.stop(signal.SIGQUIT)
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def hung(server: Postgres) -> Iterator[None]:
    server.stall()
    try:
        yield
    finally:
        server.go_on()


@contextlib.contextmanager
def read_only(server: Postgres) -> Iterator[None]:
    execute(server.url, "ALTER SYSTEM SET default_transaction_read_only = on")
    execute(server.url, "SELECT pg_reload_conf()")
    yield
    execute(server.url, "ALTER SYSTEM SET default_transaction_read_only = off")
    execute(server.url, "SELECT pg_reload_conf()")


@contextlib.contextmanager
def out_of_space(server: Postgres) -> Iterator[None]:
    """Somebody else fills the volume, with the write-ahead log on it."""
    filler = server.home / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * (1 << 16))
            file.flush()
    yield
    filler.unlink()
    assert "No space left on device" in server.log
    if not server.running:  # it gives up where it cannot write its log
        server.start()


@contextlib.contextmanager
def killed_again_and_again(server: Postgres) -> Iterator[None]:
    """Connections are ended where it hurts: while they are in a transaction."""
    with repeatedly(lambda: kill_sessions(server, "xact_start IS NOT NULL"), every_s=0.1):
        yield


@contextlib.contextmanager
def no_connections_left(server: Postgres) -> Iterator[None]:
    """Others have all the connections; ours that end are theirs at once."""
    theirs: list[psycopg2.extensions.connection] = []

    def take() -> None:
        with contextlib.suppress(psycopg2.OperationalError):
            while True:
                theirs.append(psycopg2.connect(product_url(server), application_name="theirs"))

    take()
    kill_sessions(server, "application_name <> 'theirs'")
    with repeatedly(take, every_s=0.01):
        yield
    for connection in theirs:
        connection.close()


def kill_sessions(server: Postgres, which: str) -> None:
    execute(
        server.url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE usename = 'endpoint' AND ({which})",
    )


@contextlib.contextmanager
def repeatedly(work: Callable[[], None], every_s: float) -> Iterator[None]:
    done = threading.Event()

    def loop() -> None:
        while not done.wait(every_s):
            work()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def survive(
    fault: Fault,
    server: Postgres,
    product: Product,
    tally: Tally,
    outage_s: float = OUTAGE_S,
    old: int = 4000,
) -> None:
    """Hurt a server in the middle of everybody's work, and check that all of it is done."""
    night = Night(product, old=old)
    night.at_work()
    night.start_backfill()
    night.at_work()
    with fault(server):
        night.land(30)
        time.sleep(outage_s)
    took = night.resumes(time.monotonic())
    # Away for less than a lease: nobody has lost what he knew.
    statuses = night.ends_well(unknown=0)
    assert took < ALLOWED_S, f"{took:.1f} s to resume\n{night}"
    if fault is not killed_again_and_again:  # which may have spared somebody
        night.all_said_why()
    tally(
        f"PostgreSQL {fault.__name__.replace('_', ' ')} for {outage_s:g} s",
        1,
        took,
        f"{statuses.total()} files",
    )


@pytest.mark.full
@pytest.mark.parametrize(
    "fault",
    [stopped, crashed, hung, read_only, killed_again_and_again, no_connections_left],
    ids=lambda fault: fault.__name__,
)
def test_away_for_ten_seconds(
    fault: Fault, server: Postgres, product: Product, tally: Tally
) -> None:
    survive(fault, server, product, tally)


def test_away_for_a_moment(server: Postgres, product: Product, tally: Tally) -> None:
    survive(crashed, server, product, tally, outage_s=2.0)


@pytest.mark.full
def test_no_space_left(prepared: Path, tmp_path: Path, tally: Tally) -> None:
    need_root("mount a small file system")
    with postgres.on_a_small_volume(prepared) as server:
        for product in installed(product_url(server), tmp_path):
            survive(out_of_space, server, product, tally)


@pytest.mark.full
@pytest.mark.parametrize("away_s", [15, 45])
def test_its_host_vanishes(away_s: int, prepared: Path, tmp_path: Path, tally: Tally) -> None:
    """Nothing says that it is gone: no packet comes any more, not even a refusal."""
    need_root("make a network")
    with postgres.on_a_host_of_its_own(prepared) as (server, host):
        for product in installed(product_url(server), tmp_path):
            night = Night(product)
            night.at_work()
            night.at_work()
            ip(f"-n {host} link set db down")
            night.land(30)
            time.sleep(away_s)
            ip(f"-n {host} link set db up")
            took = night.resumes(time.monotonic())
            # Beyond the lease, what the workers held is UNKNOWN.
            statuses = night.ends_well(unknown=HELD if away_s > 25 else 0)
            assert took < ALLOWED_S
            tally(f"PostgreSQL's host vanished for {away_s} s", 1, took, f"{statuses}")


@pytest.mark.full
@pytest.mark.parametrize("every", [3, 7])
def test_cut_at_a_commit(every: int, server: Postgres, tmp_path: Path, tally: Tally) -> None:
    """By turns before it took place and after, when nobody is told that it did."""
    relay = Relay(server.port, every)
    url = product_url(server).replace(f":{server.port}/", f":{relay.port}/")
    try:
        for product in installed(url, tmp_path):
            night = Night(product, old=1000)
            night.at_work()
            night.start_backfill()
            relay.cuts = True
            night.land(60)
            product.wait(lambda: min(relay.before, relay.after) >= 3, "it was cut often enough")
            night.ends_well(unknown=0)
            tally("PostgreSQL connection cut at a commit", relay.before + relay.after)
    finally:
        relay.close()


@pytest.mark.full
@pytest.mark.parametrize("fault", [stopped, hung], ids=["stopped", "hung"])
def test_a_stop_while_it_is_away(
    fault: Fault, server: Postgres, product: Product, tally: Tally
) -> None:
    night = Night(product, old=1500)
    night.at_work()
    night.start_backfill()
    night.land(100)
    slowest = 0.0
    with fault(server):
        time.sleep(0.5)
        for command in night.commands:
            begin = time.monotonic()
            command.stops(within_s=20)
            command.killed = True  # as far as the rows know: it could not say that it ended
            slowest = max(slowest, time.monotonic() - begin)
    night.start()
    night.start_backfill()
    night.ends_well(unknown=HELD)
    tally(f"SIGTERM while PostgreSQL is {fault.__name__}", 3, note=f"slowest {slowest:.1f} s")


def test_a_start_while_it_is_away(server: Postgres, product: Product) -> None:
    """Exit status 1, after which systemd starts it again; 2 says that a person must mend it."""
    server.stop()
    finder = product.finder_yaml()
    for command in (["runfinder", finder], ["runingester", product.ingester_yaml()]):
        done = product.run(*command)
        assert (done.status, "Traceback" in done.err) == (1, False), done.err
        assert re.search(r"PostgreSQL endpoint on .* cannot be used: .*refused", done.err)
    server.start()
    wrong = finder.read_text().replace("/endpoint\n", "/another\n")
    product.run("runfinder", product.write("wrong.yaml", wrong)).refused("another")
