"""Another attempt, asked for while the ingester runs."""

from __future__ import annotations

import json

from ingest.statuses import Status
from tests.system.product import Product


def test_a_running_ingester_takes_up_what_is_asked_for(product: Product) -> None:
    product.add_plugins()
    attempts = product.root / "attempts"
    product.start("runfinder", product.finder_yaml())
    ingester = product.start(
        "runingester",
        product.ingester_yaml("observatory_plugins.Moody", {"list": str(attempts)}),
    )
    product.land("night/2-late.fits")
    product.land("night/3-late.fits")
    product.land("night/bad.fits")
    product.land("night/good.fits")
    product.wait(lambda: product.final() == 4, "all were tried")
    assert product.statuses() == {Status.FAILURE: 3, Status.SUCCESS: 1}

    # By SQL, as the quickstart writes it.
    insert = (
        "INSERT INTO file_events (start_time, status, files_id)"
        " VALUES (CURRENT_TIMESTAMP, 'RERUN', %s)"
    )
    product.rows(insert, product.file_id("2-late.fits"))
    product.wait(lambda: product.status_of("2-late.fits") == Status.SUCCESS, "RERUN by SQL")
    assert product.history("2-late.fits")[-3:] == ["RERUN", "PENDING", "SUCCESS"]

    # By command: which, how many, and then for real.
    choice = ["rerun", "--ingester", "file_events", "--status", "FAILURE", "--path", "night/3*"]
    done = product.admin(*choice, "--dry-run", "--json")
    assert json.loads(done.succeeded()) == {"selected": 1, "dry_run": True}
    for _ in range(2):
        asked = len(product.history("3-late.fits"))
        assert "1 file will be tried again" in product.admin(*choice).succeeded()
        product.wait(lambda n=asked: len(product.history("3-late.fits")) == n + 3, "tried")  # type: ignore[misc]
    assert product.history("3-late.fits")[2:] == [
        "FAILURE", "RERUN", "PENDING", "FAILURE", "RERUN", "PENDING", "SUCCESS"
    ]  # fmt: skip
    assert "0 files will be tried again" in product.admin(*choice).succeeded()

    # Of a file that succeeded, too; and by its id while it is not known to the ingester yet.
    product.admin("rerun", "--ingester", "file_events", "--file", product.file_id("good.fits"))
    product.wait(lambda: len(product.history("good.fits")) == 6, "tried again")
    ingester.stops()
    product.land("night/fresh.fits")
    product.wait(lambda: product.stored() == 5, "stored")
    number = str(product.file_id("fresh.fits"))
    product.admin("rerun", "--ingester", "file_events", "--file", number).succeeded()
    ingester = product.start("runingester", product.root / "ingester.yaml")
    product.wait(lambda: product.status_of("fresh.fits") == Status.SUCCESS, "tried")
    ingester.stops()

    assert product.history("bad.fits") == ["UNTRIED", "PENDING", "FAILURE"]
    assert [line.split()[0] for line in attempts.read_text().splitlines()].count("bad.fits") == 1
    product.admin("rerun", "--ingester", "nobody", "--all").refused("nobody", "file_events")
