"""What the tests of killed workers look for is noticed: each is shown a product that does it."""

from __future__ import annotations

import re

import pytest

from tests.faults.crew import FROZEN_S, Watch, age_claims, kill, pids_of, start
from tests.system import process_table
from tests.system.product import Product
from tests.tally import Tally

FILES = 60


def mutate(product: Product, mutant: str) -> None:
    """Have the commands of a product be a mutant."""
    product.environment |= {
        "DJANGO_SETTINGS_MODULE": "tests.faults.mutant_settings",
        "MUTANT": mutant,
    }


def kill_the_only_worker(product: Product) -> Watch:
    """Kill it again and again in the middle of a batch, and let its claims lapse each time."""
    yaml, watch = start(product, FILES, tells=True, num_threads=1)
    watch.frozen_s = 20
    command = product.start("runingester", yaml, "--once")
    for number in (1, 2, 3):
        watch.until_done(FILES * number // 5)
        (who,) = kill(watch.victims(command, "busy")[:1])
        product.wait(lambda w=who: not process_table.is_alive(*w), "it is dead")  # type: ignore[misc]
        age_claims(product)
    watch.until(lambda: not command.running, "it ends by itself")
    command.ends().succeeded()
    return watch


@pytest.mark.full
def test_the_product_passes(product_on_sqlite: Product) -> None:
    kill_the_only_worker(product_on_sqlite).check(tells=True, unknown=0)


@pytest.mark.full
def test_files_that_stay_claimed_are_noticed(product_on_sqlite: Product, tally: Tally) -> None:
    mutate(product_on_sqlite, "never_swept")
    with pytest.raises(AssertionError, match="nothing moves"):
        kill_the_only_worker(product_on_sqlite)
    tally("mutant: claims of the dead are never swept", 1, note="noticed, as it must be")


def test_files_ingested_twice_are_noticed(product_on_sqlite: Product, tally: Tally) -> None:
    mutate(product_on_sqlite, "blind")
    watch = kill_the_only_worker(product_on_sqlite)
    with pytest.raises(AssertionError, match="ingested twice"):
        watch.check(tells=True, unknown=0)
    tally("mutant: the target is not asked what it has", 1, note="noticed, as it must be")


def kill_idle_workers(product: Product) -> Watch:
    """Kill all workers while they wait for work; then there is work."""
    yaml, _ = start(product, 10, tells=True)
    command = product.start("runingester", yaml)
    product.wait(lambda: product.statuses() == {"SUCCESS": 10}, "they work")
    busy = "SELECT count(*) FROM buffer_component WHERE kind = 'session' AND stopped_on IS NULL"
    product.wait(lambda: product.value(busy) == 0, "they are idle")
    kill(pids_of(command, "worker"))
    _, watch = start(product, 10, tells=True, first=10)
    watch.files = 20
    watch.until_done(20)
    command.stops(within_s=30)
    return watch


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_canary_mends_the_queues_of_django_q(product_on_sqlite: Product, tally: Tally) -> None:
    """The dead take a lock with them, so that no successor ever gets work from that queue."""
    mutate(product_on_sqlite, "queues_as_published")
    watch = kill_idle_workers(product_on_sqlite)
    watch.check(tells=True, unknown=0)
    (command,) = (c for c in product_on_sqlite.commands if "runingester" in c.arguments)
    assert re.search("wake-ups wait although workers are idle", command.err)
    assert re.search("wake-ups still wait although workers are idle", command.err)
    assert 1 < watch.longest_s < FROZEN_S
    tally("mutant: queues as published by django-q2, idle workers killed", 2, watch.longest_s)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_without_canary_the_queues_of_django_q_freeze(
    product_on_sqlite: Product, tally: Tally
) -> None:
    mutate(product_on_sqlite, "queues_as_published_and_nobody_looks")
    with pytest.raises(AssertionError, match="nothing moves"):
        kill_idle_workers(product_on_sqlite)
    tally("mutant: the same without canary", 2, note="frozen, as it must be")


@pytest.mark.full
@pytest.mark.timeout(600)
def test_our_queues_do_not_even_hesitate(product_on_sqlite: Product) -> None:
    watch = kill_idle_workers(product_on_sqlite)
    watch.check(tells=True, unknown=0)
    assert watch.longest_s < 10
