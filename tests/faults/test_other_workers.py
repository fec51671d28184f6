"""SIGKILL for each kind of process of a finder and of backfill, in the middle of their work."""

from __future__ import annotations

import random

import pytest

from tests.faults.crew import kill, victims
from tests.faults.streams import OLD_FILES, Backfill, Stream, old_storage
from tests.system import process_table
from tests.system.product import Command, Product
from tests.tally import Tally

TIMES = 10
ROLES = ["sentinel", "pusher", "monitor", "worker"]


def kill_one(product: Product, command: Command, role: str) -> None:
    """Kill one process of a role, as soon as there is one."""
    (who,) = kill([random.choice(victims(product.wait, command, role))])
    product.wait(lambda: not process_table.is_alive(*who), "it is dead")


def take_in(product: Product, roles: list[str], burst: int) -> float:
    """Kill one process of a finder in each burst of files; give the longest wait in seconds."""
    command = product.start("runfinder", product.finder_yaml())
    stream = Stream(product, command)
    stream.land()
    stream.until_stored()
    for role in roles:
        before = product.stored()
        stream.land(burst)
        product.wait(lambda n=before: product.stored() > n, "it takes them in")  # type: ignore[misc]
        kill_one(product, command, role)
        stream.until_stored()
    command.stops()
    stream.check()
    return stream.longest_s


def test_of_a_finder_once(product_on_sqlite: Product, tally: Tally) -> None:
    longest_s = take_in(product_on_sqlite, ROLES, 100)
    tally("each process of a finder killed once", len(ROLES), longest_s)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("role", ROLES)
def test_of_a_finder_ten_times(product: Product, tally: Tally, role: str) -> None:
    longest_s = take_in(product, [role] * TIMES, 400)
    tally(f"{role} of a finder killed", TIMES, longest_s)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("role", ROLES)
def test_of_a_backfill_ten_times(product: Product, tally: Tally, role: str) -> None:
    command = product.start("backfill", old_storage(product), "--workers", "2")
    backfill = Backfill(product, command)
    killed = 0
    for number in range(1, TIMES + 1):
        backfill.until_done(OLD_FILES * number // (TIMES + 2))
        if command.running:
            kill_one(product, command, role)
            killed += 1
    backfill.check()
    assert killed == TIMES
    tally(f"{role} of a backfill killed", killed, backfill.longest_s)
