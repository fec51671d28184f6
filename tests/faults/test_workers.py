"""SIGKILL for each kind of process of an ingester, in the middle of its work."""

from __future__ import annotations

import random

import pytest

from tests.faults.crew import FROZEN_S, Watch, age_claims, kill, pids_of, start
from tests.system import process_table
from tests.system.product import Command, Product
from tests.tally import Tally

FILES = 2000
TIMES = 10
BATCH = 10
ROLES = ["sentinel", "pusher", "monitor", "worker", "host"]

#: What else takes with it: a worker's batch is lost with the worker.
LOST = {"pusher": 0, "monitor": 0, "host": BATCH, "worker": BATCH}


def kill_one(watch: Watch, command: Command, role: str) -> None:
    """Kill one process of a role."""
    victim = random.choice(watch.victims(command, "busy" if role == "worker" else role))
    (who,) = kill([victim])
    watch.until(lambda: not process_table.is_alive(*who), "it is dead")


def kill_command(product: Product, command: Command) -> None:
    """Kill a command and see that everything below it dies too."""
    below = process_table.descendants(command.process.pid)
    assert len(below) >= 5
    command.kill()
    product.wait(
        lambda: not any(process_table.is_alive(*one) for one in below), "its workers die too", 5
    )


@pytest.mark.parametrize(
    ("database", "tells"),
    [("sqlite", True), pytest.param("postgresql", False, marks=pytest.mark.full)],
    indirect=["database"],
)
def test_each_kind_once(product: Product, tally: Tally, tells: bool) -> None:
    """What the dead held lapses by the clock: here it is moved on instead of waited for."""
    files = 350
    yaml, watch = start(product, files, tells=tells)
    command = product.start("runingester", yaml, "--once")
    for number, role in enumerate(ROLES, start=1):
        watch.until_done(45 * number)
        kill_one(watch, command, role)
    watch.until_done(45 * 6)
    kill_command(product, command)
    age_claims(product)
    product.run("runingester", yaml, "--once", within_s=200).succeeded()
    watch.look()
    watch.check(tells=tells, unknown=BATCH * 6)
    tally("each process of an ingester killed once", 6, watch.longest_s)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("tells", [False, True], ids=["counting", "telling"])
@pytest.mark.parametrize("role", ROLES)
def test_each_kind_ten_times(product: Product, tally: Tally, role: str, tells: bool) -> None:
    yaml, watch = start(product, FILES, tells=tells)
    command = product.start("runingester", yaml, "--once")
    for number in range(1, TIMES + 1):
        watch.until_done(FILES * number // (TIMES + 2))
        kill_one(watch, command, role)
    watch.until(lambda: not command.running, "it ends by itself")
    command.ends().succeeded()
    watch.check(tells=tells, unknown=TIMES * LOST.get(role, 2 * BATCH))
    assert watch.longest_s < FROZEN_S
    tally(f"{role} killed", TIMES, watch.longest_s, "" if tells else unknown_of(product))


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("tells", [False, True], ids=["counting", "telling"])
def test_the_command_ten_times(product: Product, tally: Tally, tells: bool) -> None:
    yaml, watch = start(product, FILES, tells=tells)
    command = product.start("runingester", yaml, "--once")
    for number in range(1, TIMES + 1):
        watch.until_done(FILES * number // (TIMES + 2))
        kill_command(product, command)
        command = product.start("runingester", yaml, "--once")
    watch.until(lambda: not command.running, "it ends by itself")
    command.ends().succeeded()
    watch.check(tells=tells, unknown=TIMES * 2 * BATCH)
    assert watch.longest_s < FROZEN_S
    tally("ingester's command killed", TIMES, watch.longest_s, "" if tells else unknown_of(product))


@pytest.mark.full
@pytest.mark.timeout(900)
def test_an_idle_worker_ten_times(product: Product, tally: Tally) -> None:
    """The next in line for a wake-up: as django-q2 is published, nobody would get it then."""
    each = FILES // TIMES
    yaml, watch = start(product, each, tells=False)
    command = product.start("runingester", yaml)
    watch.until_done(each)
    heal_s = 0.0
    for number in range(1, TIMES):
        product.wait(lambda: not sessions(product), "all workers are idle")
        (who,) = kill([random.choice(pids_of(command, "worker"))])
        _, watch = start(product, each, tells=False, first=number * each)
        watch.files = (number + 1) * each
        watch.until_done(watch.files)
        heal_s = max(heal_s, watch.longest_s)
        assert not process_table.is_alive(*who)
        assert len(pids_of(command, "worker")) == 2
    assert "being restarted" not in command.err
    command.stops()
    watch.check(tells=False, unknown=0)
    tally("idle worker next in line killed", TIMES - 1, heal_s)


def sessions(product: Product) -> int:
    return int(
        product.value(
            "SELECT count(*) FROM buffer_component WHERE kind = 'session' AND stopped_on IS NULL"
        )
    )


def unknown_of(product: Product) -> str:
    return f"{product.statuses()['UNKNOWN']} unknown"
