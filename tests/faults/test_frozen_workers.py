"""Processes that are frozen instead of dead: stopped, or waiting for what never comes."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.faults.crew import FROZEN_S, kill, pids_of, start
from tests.system import process_table
from tests.system.product import Product
from tests.tally import Tally


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("role", ["sentinel", "pusher", "monitor", "worker", "host"])
def test_of_an_ingester(product: Product, tally: Tally, role: str) -> None:
    """All that have the role are stopped at once; with one of two workers the other goes on."""
    yaml, watch = start(product, 2000, tells=True, timeout=2)
    command = product.start("runingester", yaml, "--once")
    watch.until_done(200)
    victims = kill(watch.victims(command, role), signal.SIGSTOP)
    watch.until(lambda: not command.running, "it ends by itself")
    command.ends().succeeded()
    assert not any(process_table.is_alive(*one) for one in victims)
    watch.check(tells=True, unknown=0)
    assert watch.longest_s < FROZEN_S
    tally(f"{role} of an ingester stopped (SIGSTOP)", len(victims), watch.longest_s)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("role", ["sentinel", "pusher", "monitor", "worker"])
def test_of_the_only_host_of_external_workers(product: Product, tally: Tally, role: str) -> None:
    yaml, watch = start(product, 2000, tells=True, timeout=2)
    command = product.start("runingester", yaml, "--external-workers", "--once")
    host = product.start("runworkers", "--workers", "2", DATABASE_URL=product.url)
    watch.until_done(200)
    victims = kill(watch.victims(host, role), signal.SIGSTOP)
    watch.until(lambda: not command.running, "it ends by itself")
    command.ends().succeeded()
    host.stops()
    watch.check(tells=True, unknown=0)
    assert watch.longest_s < FROZEN_S
    tally(f"{role} of runworkers stopped (SIGSTOP)", len(victims), watch.longest_s)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("role", ["sentinel", "pusher", "monitor", "worker"])
def test_of_a_finder(product_on_sqlite: Product, tally: Tally, role: str) -> None:
    product = product_on_sqlite
    command = product.start("runfinder", product.finder_yaml())
    product.land("before.fits")
    product.wait(lambda: product.stored() == 1, "it works")
    victims = kill(pids_of(command, role), signal.SIGSTOP)
    begin, sent, longest_s = time.monotonic(), 1, 0.0
    # Some of them the others can do without for a while: go on until it is replaced.
    while any(process_table.is_alive(*one) for one in victims):
        product.land(f"{sent}.fits")
        sent += 1
        landed = time.monotonic()
        product.wait(lambda n=sent: product.stored() == n, "taken in", 2 * FROZEN_S)  # type: ignore[misc]
        longest_s = max(longest_s, time.monotonic() - landed)
        assert time.monotonic() - begin < 3 * FROZEN_S, "it is not replaced"
    command.stops()
    product.check_at_rest()
    assert longest_s < FROZEN_S
    tally(f"{role} of a finder stopped (SIGSTOP)", len(victims), longest_s)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("role", ["sentinel", "pusher", "monitor", "worker"])
def test_of_a_backfill(product_on_sqlite: Product, tally: Tally, role: str) -> None:
    product = product_on_sqlite
    files = 4000
    for number in range(files):
        path = product.storage / "old" / f"{number % 50}" / f"{number:05d}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(1000))
    yaml = product.write(
        "backfill.yaml",
        {
            "database": product.database("file_events"),
            "backfill": {"storage": str(product.storage), "sources": ["old"]},
        },
    )
    command = product.start("backfill", yaml, "--workers", "2")
    count = "SELECT count(*) FROM ingest_ingestion"
    product.wait(lambda: product.value(count) > 200, "it works")
    victims = kill(pids_of(command, role), signal.SIGSTOP)
    before, moved_at, longest_s = 0, time.monotonic(), 0.0
    while command.running:
        now, done = time.monotonic(), product.value(count)
        longest_s = max(longest_s, now - moved_at)
        if done != before:
            before, moved_at = done, now
        assert longest_s < 3 * FROZEN_S, f"{done} of {files} files\n{product.report()}"
        time.sleep(0.05)
    assert f"{files} added" in command.ends().succeeded()
    assert not any(process_table.is_alive(*one) for one in victims)
    assert product.statuses() == {"BACKFILL": files}
    assert product.left_over() == []
    assert longest_s < FROZEN_S
    tally(f"{role} of a backfill stopped (SIGSTOP)", len(victims), longest_s)
