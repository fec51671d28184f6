"""Processes that are frozen instead of dead: stopped, or waiting for what never comes."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults.crew import FROZEN_S, kill, pids_of, start
from tests.faults.streams import Backfill, Stream, old_storage
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
    stream = Stream(product, command)
    stream.land()
    stream.until_stored()
    victims = kill(pids_of(command, role), signal.SIGSTOP)
    begin = time.monotonic()
    # Some of them the others can do without for a while: go on until it is replaced.
    while any(process_table.is_alive(*one) for one in victims):
        stream.land()
        stream.until_stored()
        assert time.monotonic() - begin < 3 * FROZEN_S, "it is not replaced"
    command.stops()
    stream.check()
    tally(f"{role} of a finder stopped (SIGSTOP)", len(victims), stream.longest_s)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("role", ["sentinel", "pusher", "monitor", "worker"])
def test_of_a_backfill(product_on_sqlite: Product, tally: Tally, role: str) -> None:
    product = product_on_sqlite
    command = product.start("backfill", old_storage(product), "--workers", "2")
    backfill = Backfill(product, command)
    backfill.until_done(200)
    victims = kill(pids_of(command, role), signal.SIGSTOP)
    assert victims
    backfill.check()
    assert not any(process_table.is_alive(*one) for one in victims)
    tally(f"{role} of a backfill stopped (SIGSTOP)", len(victims), backfill.longest_s)
