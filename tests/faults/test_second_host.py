"""Workers of another host (a process group of its own, the same database) die in every way."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.faults.crew import FROZEN_S, Watch, age_claims, kill, pids_of, start
from tests.system import process_table
from tests.system.product import Command, Product
from tests.tally import Tally

#: Who is there even if there is nothing to do.
IDLE = {"host": "worker"}
ROLES = ["sentinel", "pusher", "monitor", "worker", "host", "command", "group", "everybody"]


def hurt(watch: Watch, command: Command, role: str) -> None:
    """Kill one process of a role, the process group of a command, or all it consists of."""
    below = process_table.descendants(command.process.pid)
    if role == "command":
        command.kill()
    elif role == "group":
        command.killed = True
        os.killpg(command.process.pid, signal.SIGKILL)
    elif role == "everybody":
        command.killed = True
        for pid in [*(pid for pid, _ in below), command.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    else:
        # The first host may be faster, so that nobody is busy here.
        wanted = {"worker": "busy"}.get(role, role)
        kill(pids_of(command, wanted)[:1] or watch.victims(command, IDLE.get(role, role))[:1])
        return
    command.process.wait()
    watch.until(
        lambda: not any(process_table.is_alive(*one) for one in below), "its workers die too"
    )


def run(product: Product, roles: list[str], files: int, *, wait_for_lease: bool) -> Watch:
    """Hurt a second host again and again while files are ingested by two."""
    yaml, watch = start(product, files, tells=True)

    def begin() -> Command:
        return product.start("runworkers", "--workers", "2", DATABASE_URL=product.url)

    ingester = product.start("runingester", yaml, "--external-workers", "--once")
    first, second = begin(), begin()
    for number, role in enumerate(roles, start=1):
        watch.until_done(files * number // (len(roles) + 2))
        hurt(watch, second, role)
        if not second.running:
            second = begin()
    if not wait_for_lease:
        both = [first, second]
        for command in both:
            hurt(watch, command, "everybody")
        age_claims(product)
        first, second = begin(), begin()
    watch.until(lambda: not ingester.running, "it ends by itself")
    ingester.ends().succeeded()
    for host in (first, second):  # one that has just been started is not asked to stop before
        product.wait(lambda h=host: h.says("workers read the queue"), "it is up")  # type: ignore[misc]
    first.stops()
    second.stops()
    watch.check(tells=True, unknown=0)
    assert watch.longest_s < FROZEN_S
    return watch


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("role", ROLES)
def test_ten_times(product: Product, tally: Tally, role: str) -> None:
    watch = run(product, [role] * 10, 2000, wait_for_lease=True)
    tally(f"second host's {role} killed", 10, watch.longest_s)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_once(product: Product, tally: Tally) -> None:
    watch = run(product, ["pusher", "group"], 120, wait_for_lease=False)
    tally("processes of a second host killed", 4, watch.longest_s)
