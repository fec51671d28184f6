"""Signals that ask to stop, again and again, in the middle of the work."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.crew import pids_of, start
from tests.system import process_table
from tests.system.product import STOP_S, Command, Product
from tests.system.test_crashes import counted
from tests.tally import Tally

FILES = 60


def interrupt(product: Product, command: Command, signum: int, *, group: bool) -> float:
    """Send a signal again and again until the command has ended; give how long it took."""
    everybody = process_table.descendants(command.process.pid)
    begin = time.monotonic()
    while command.running:
        # The process group is the command's alone, or what it did not move to another.
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(command.process.pid, signum)
        time.sleep(0.003)
        assert time.monotonic() - begin < 60, product.report()
    took_s = time.monotonic() - begin
    command.ends().succeeded()
    assert not [one for one in everybody if process_table.is_alive(*one)]
    assert product.left_over() == []
    assert took_s < STOP_S + 5
    return took_s


def check_given_back(product: Product, listed: Path) -> None:
    """Check that nothing is held, and that each file is done or was not begun."""
    product.check_at_rest()
    assert set(product.statuses()) <= {"SUCCESS", "UNTRIED", "UNKNOWN"}
    assert max(counted(listed).values()) == 1


@pytest.mark.parametrize(
    ("signum", "group"),
    [
        (signal.SIGTERM, False),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.full),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.full),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.full),
    ],
)
def test_an_ingester_in_a_batch(
    product_on_sqlite: Product, tally: Tally, signum: int, group: bool
) -> None:
    product = product_on_sqlite
    yaml, watch = start(product, FILES, tells=False)
    command = product.start("runingester", yaml)
    watch.until_done(10)
    took_s = interrupt(product, command, signum, group=group)
    check_given_back(product, watch.listed)
    assert product.statuses()["UNKNOWN"] == 0
    tally("stop signals, many, in a batch", 1, took_s)


@pytest.mark.full
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("group", [False, True], ids=["command", "group"])
@pytest.mark.parametrize("what", ["slow", "hung", "external", "finder"])
def test_whatever_it_does(
    product: Product, tally: Tally, signum: int, group: bool, what: str
) -> None:
    """Also in a batch that is not done in time, or in a plugin that is stopped."""
    yaml, watch = start(product, FILES, tells=True)
    if what == "slow":
        text = yaml.read_text().replace("pause: 0.01", "pause: 0.5")
        yaml.write_text(text.replace("batch_size: 10", "batch_size: 40"))
    if what == "finder":
        command = product.start("runfinder", product.root / "finder.yaml")
        for number in range(500):
            product.land(f"more/{number}.fits")
        product.wait(lambda: product.stored() > FILES, "it is at work")
    elif what == "external":
        product.start("runingester", yaml, "--external-workers")
        command = product.start("runworkers", "--workers", "2", DATABASE_URL=product.url)
        watch.until_done(10)
    else:
        command = product.start("runingester", yaml)
        watch.until_done(2)
    if what == "hung":
        for pid in pids_of(command, "host"):
            os.kill(pid, signal.SIGSTOP)
    if what == "external":
        product.commands[-2].stops()
    took_s = interrupt(product, command, signum, group=group)
    if what != "finder":
        check_given_back(product, watch.listed)
    tally(f"stop signals, many: {what}", 1, took_s)
