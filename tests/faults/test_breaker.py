"""Targets that are down for a while, with many files waiting: the real commands, from outside."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from ingest.statuses import Status
from tests.faults.databases import postgresql_first, sqlite_first
from tests.system.product import Product
from tests.tally import Tally

PLUGIN = "observatory_plugins.Outage"
#: Files that workers may have in hand when the pause begins, beyond those that brought it about.
IN_HAND = 2 * 10


class Target:
    """A target that can be taken down."""

    def __init__(self, product: Product, **config: float) -> None:
        self._switch, self._list = product.root / "down", product.root / "list"
        self.config = {"down": str(self._switch), "list": str(self._list), **config}
        product.add_plugins()

    def goes_down(self) -> None:
        self._switch.touch()

    def comes_back(self) -> float:
        self._switch.unlink()
        return time.time()

    def has(self) -> Counter[str]:
        text = self._list.read_text() if self._list.exists() else ""
        return Counter(text.splitlines())


def files_wait(product: Product, count: int) -> None:
    for number in range(count):
        product.land(f"{number:05d}.fits")
    product.run("runfinder", product.finder_yaml(), "--once", within_s=600).succeeded()


def ingester_of(product: Product, target: Target, workers: int = 2) -> Path:
    return product.ingester_yaml(PLUGIN, target.config, num_threads=workers)


def first_success(product: Product) -> float:
    """Give the time at which the first file got in."""
    text = "min(start_time)"
    seconds = (
        f"extract(epoch FROM {text})"
        if product.is_postgresql
        else f"(julianday({text}) - 2440587.5) * 86400.0"
    )
    return float(product.value(f"SELECT {seconds} FROM ingest_fileevent WHERE status = 'SUCCESS'"))


def check_that_the_operator_is_told(product: Product) -> None:
    """Look at what the commands say while the target is down."""
    (one,) = json.loads(product.admin("status", "--json").succeeded())["ingesters"]
    assert "connection refused" in one["pause"]["reason"]
    assert one["pause"]["since"] and one["pause"]["next_probe"]
    assert one["live"] and one["failed"] == 0
    text = product.admin("status").succeeded()
    assert "paused" in text and "connection refused" in text and "probed with one file" in text
    text = product.admin("explain", "00042.fits").succeeded()
    assert "but the ingester is paused since" in text and "connection refused" in text
    message = product.value("SELECT message FROM buffer_component WHERE kind = 'ingester'")
    assert "connection refused" in message


def survives(product: Product, target: Target, files: int, down_s: float) -> tuple[float, int]:
    """Have a target down with files waiting; give the time to heal, and how often it was tried."""
    files_wait(product, files)
    target.goes_down()
    ingester = product.start("runingester", ingester_of(product, target))
    product.wait(lambda: ingester.says("file_events pauses: 5 files in a row"), "it pauses")
    begin = time.monotonic()
    check_that_the_operator_is_told(product)
    charged = []
    while time.monotonic() - begin < down_s:
        charged.append(product.value("SELECT count(*) FROM ingest_ingestion WHERE attempts > 0"))
        time.sleep(0.1)
    back = target.comes_back()
    product.wait(lambda: product.statuses() == {Status.SUCCESS: files}, "all are there", 600)
    ended = ingester.stops()
    # In hand at the begin; afterwards one at a time, and only what is being tried at all.
    assert max(charged[10:], default=0) <= IN_HAND, charged
    assert max(charged[-20:], default=0) <= 1, charged
    assert target.has() == Counter(f"{n:05d}.fits" for n in range(files)), "each once"
    assert product.rows("SELECT DISTINCT attempts FROM ingest_ingestion") == [(1,)]
    tried = product.value("SELECT count(*) FROM ingest_fileevent WHERE status = 'PENDING'")
    probes = product.value(
        "SELECT count(*) FROM ingest_fileevent WHERE note LIKE %s", "%does not answer yet%"
    )
    assert tried - files <= 5 + IN_HAND + probes, "only probes beyond the first few"
    assert probes <= 4 + down_s / 20, "and not many"
    assert ended.err.count("file_events pauses") == 1, ended.err
    assert ended.err.count("file_events goes on") == 1, ended.err
    product.check_at_rest()
    return first_success(product) - back, tried - files


@postgresql_first
@pytest.mark.parametrize(
    ("files", "down_s"),
    [
        (300, 2.5),
        pytest.param(5000, 120.0, marks=[pytest.mark.full, pytest.mark.timeout(1500)]),
    ],
)
def test_a_target_that_is_down(product: Product, tally: Tally, files: int, down_s: float) -> None:
    healed, extra = survives(product, Target(product), files, down_s)
    # The longest pause between two probes, and a machine that is busy.
    assert healed < 36 + 30
    note = f"{files} files, down {down_s:g} s: {extra} attempts uncharged"
    tally("target down", 1, max(healed, 0.1), note)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_target_that_is_slow_to_fail(product: Product, tally: Tally) -> None:
    """Each attempt takes seconds to fail, as when nobody answers."""
    healed, _ = survives(product, Target(product, seconds=2.0), 300, 60.0)
    # What is in hand when it returns must end first.
    assert healed < 36 + 20 + 30
    tally("target down, each attempt takes 2 s", 1, max(healed, 0.1))


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_run_that_is_to_end_gives_up(product: Product, tally: Tally) -> None:
    target = Target(product)
    files_wait(product, 30)
    target.goes_down()
    yaml = ingester_of(product, target)
    begin = time.monotonic()
    done = product.run("runingester", yaml, "--once", within_s=500)
    took = time.monotonic() - begin
    assert done.status == 1
    assert "gave up after 9 failed probes" in done.err and "connection refused" in done.err
    assert "Traceback" not in done.err
    assert product.statuses() == {Status.UNTRIED: 30}
    assert product.rows("SELECT DISTINCT attempts FROM ingest_ingestion") == [(0,)]
    product.check_at_rest()
    # The next run does not wait for what the last one had found.
    target.comes_back()
    begin = time.monotonic()
    product.run("runingester", yaml, "--once").succeeded()
    assert product.statuses() == {Status.SUCCESS: 30}
    tally("target down for a run that is to end", 1, note=f"gave up after {took:.0f} s")


@sqlite_first
def test_a_prober_that_died(product: Product, tally: Tally) -> None:
    """Its probe lapses, and another worker's takes its place."""
    target = Target(product)
    files_wait(product, 40)
    target.goes_down()
    ingester = product.start("runingester", ingester_of(product, target))
    product.wait(lambda: ingester.says("file_events pauses"), "it pauses")
    ingester.stops()
    # As if a worker on another host had died in the middle of a probe, some time ago.
    later = "now() + interval '3 s'" if product.is_postgresql else "datetime('now', '+3 seconds')"
    token = "0" * 32
    product.rows(f"UPDATE ingest_breaker SET prober = '{token}', probe_on = {later}")
    target.comes_back()
    begin = time.monotonic()
    again = product.start("runingester", product.root / "ingester.yaml")
    product.wait(lambda: product.statuses() == {Status.SUCCESS: 40}, "all are there")
    tally("prober lost", 1, time.monotonic() - begin)
    again.stops()
