"""More than one command at work for one ingester, on one host or many, with either broker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingest.statuses import Status
from tests import servers
from tests.conftest import unavailable
from tests.system.product import Product
from tests.system.test_crashes import counted

FILES = 200


def prepare(product: Product) -> tuple[Path, Path]:
    """Take files in; give the counting plugin's YAML file, and its list."""
    product.add_plugins()
    for number in range(FILES):
        product.land(f"night/{number:03d}.fits")
    product.run("runfinder", product.finder_yaml(), "--once").succeeded()
    listed = product.root / "list"
    yaml = product.ingester_yaml(
        "observatory_plugins.Counting",
        {"list": str(listed), "pause": 0.01},
        num_threads=2,
        batch_size=4,
    )
    return yaml, listed


def each_was_ingested_once(product: Product, listed: Path) -> None:
    assert product.statuses() == {Status.SUCCESS: FILES}
    assert len(counted(listed)) == FILES
    assert max(counted(listed).values()) == 1
    events = product.rows("SELECT status, count(*) FROM ingest_fileevent GROUP BY 1 ORDER BY 1")
    assert events == [("PENDING", FILES), ("SUCCESS", FILES), ("UNTRIED", FILES)]


def workers_that_took_part(product: Product) -> int:
    query = "SELECT count(DISTINCT worker) FROM ingest_fileevent WHERE status = 'SUCCESS'"
    return int(product.value(query))


def test_two_ingesters_on_one_target(product: Product) -> None:
    yaml, listed = prepare(product)
    one, other = (product.start("runingester", yaml, "--once") for _ in range(2))
    one.ends().succeeded()
    other.ends().succeeded()
    each_was_ingested_once(product, listed)
    assert workers_that_took_part(product) > 1
    product.check_at_rest()


def test_external_workers(product: Product) -> None:
    yaml, listed = prepare(product)
    ingester = product.start("runingester", yaml, "--external-workers")
    product.wait(
        lambda: product.statuses() == {Status.UNTRIED: FILES}, "opened; nobody works on them yet"
    )
    hosts = [
        product.start("runworkers", "--workers", "2", DATABASE_URL=product.url) for _ in range(2)
    ]
    product.wait(lambda: product.final() == FILES, "the workers have done it")
    each_was_ingested_once(product, listed)
    assert workers_that_took_part(product) > 2
    # Killed and gone; the other's workers do what comes.
    hosts[0].kill()
    product.wait(lambda: len(product.left_over()) < 10, "its workers die too", 10)
    product.land("night/late.fits")
    product.run("runfinder", product.root / "finder.yaml", "--once").succeeded()
    product.wait(lambda: product.status_of("late.fits") == Status.SUCCESS, "ingested")
    ingester.stops()
    assert "workers stopped" in hosts[1].stops().out
    assert product.left_over() == []
    product.check_at_rest()


def test_a_run_of_external_workers_ends_by_itself(product: Product) -> None:
    yaml, listed = prepare(product)
    workers = product.start("runworkers", "--workers", "2", DATABASE_URL=product.url)
    product.run("runingester", yaml, "--external-workers", "--once").succeeded()
    each_was_ingested_once(product, listed)
    workers.stops()


@pytest.fixture
def redis_url() -> str:
    """A Redis database that no other process of this run of the tests uses."""
    url = servers.redis_url()
    if url is None:
        unavailable("there is no Redis")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return f"{str(url).rpartition('/')[0]}/{14 - int(worker) % 8}"


def test_redis_as_the_broker(product: Product, redis_url: str) -> None:
    product.environment["Q_BROKER_URL"] = redis_url
    yaml, listed = prepare(product)
    finder = product.start("runfinder", product.root / "finder.yaml")
    ingester = product.start("runingester", yaml)
    product.wait(lambda: product.final() == FILES, "all is ingested")
    each_was_ingested_once(product, listed)
    product.land("night/late.fits")
    product.wait(lambda: product.status_of("late.fits") == Status.SUCCESS, "a late one too")
    finder.stops()
    ingester.stops()
    assert product.value("SELECT count(*) FROM django_q_ormq") == 0
    product.check_at_rest()


def test_redis_that_is_not_there(product_on_sqlite: Product) -> None:
    """A broker that is away is waited for: it is no reason to lose what waits."""
    product = product_on_sqlite
    product.land("raw.fits")
    product.environment["Q_BROKER_URL"] = "redis://:of-the-broker@127.0.0.1:1/0"
    finder = product.start("runfinder", product.finder_yaml())
    product.wait(lambda: finder.says("no wake-ups can be sent"), "it says so")
    assert "of-the-broker" not in finder.stops().err
