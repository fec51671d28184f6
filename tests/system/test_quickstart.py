"""The quickstart word for word: its files, its procedures, its SQL."""

from __future__ import annotations

from pathlib import Path

from ingest.statuses import Status
from tests.system.legacy_task import ingested
from tests.system.product import Product

SQL = """
      INSERT INTO gen2_file_events
      (start_time, status, files_id)
      VALUES (CURRENT_TIMESTAMP, 'RERUN', <files_id>);
"""

PACKAGE = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"


def add_legacy_task(product: Product) -> Path:
    """Put lsst.pipe.tasks.ingest on the path, beside the packages of the Butler; make a root."""
    package = product.modules
    for part in ("lsst", "pipe", "tasks"):
        package /= part
        package.mkdir()
        (package / "__init__.py").write_text(PACKAGE)
    source = Path(__file__).with_name("legacy_task.py").read_text("utf-8")
    (package / "ingest.py").write_text(source, "utf-8")
    root = product.root / "gen2repo"
    root.mkdir()
    (root / "_mapper").write_text("some.Mapper\n")
    return root


def test_landing_ingest_rerun_and_backfill(product: Product) -> None:
    root = add_legacy_task(product)
    finder_yaml = product.quickstart("finder.yaml")
    ingester_yaml = product.quickstart("ingester.yaml")
    # Before anything else runs: an image of the days before this system.
    old = product.storage / "2020-12-31" / "night" / "raw_old.fits"
    old.parent.mkdir(parents=True)
    old.write_text("an old image")

    # The other tests start the finder first; it does not matter.
    ingester = product.start("runingester", ingester_yaml)
    product.wait(lambda: ingester.says("no storage named 'files' is known yet"), "a hint")
    finder = product.start("runfinder", finder_yaml)
    product.land("2026-11-23/raw_1.fits")
    product.land("2026-11-23/raw_late.fits")
    product.land("raw_2.fits")
    product.wait(lambda: product.final() == 3, "three files are through")
    # The same again is a duplicate, and deleted; the ingester hears nothing of it.
    again = product.land("2026-11-24/raw_1.fits", "content of 2026-11-23/raw_1.fits\n")
    product.wait(lambda: not again.exists(), "the duplicate is gone")

    assert product.statuses() == {Status.SUCCESS: 2, Status.FAILURE: 1}
    assert product.history("raw_1.fits") == ["UNTRIED", "PENDING", "SUCCESS"]
    assert product.history("raw_late.fits") == ["UNTRIED", "PENDING", "FAILURE"]
    assert "Failed to ingest file" in product.message_of("raw_late.fits")
    assert ingested(str(root)) == ["raw_1.fits", "raw_2.fits"]
    assert product.files_in(product.buffer) == {}
    assert sorted(product.files_in(product.storage)) == [
        "2020-12-31/night/raw_old.fits",
        "2026-11-23/raw_1.fits",
        "2026-11-23/raw_late.fits",
        "raw_2.fits",
    ]
    assert "finder stopped: 3 stored, 1 duplicates, 0 refused" in finder.stops().out
    assert "1 FAILURE, 3 PENDING, 2 SUCCESS, 3 UNTRIED" in ingester.stops().out
    assert product.left_over() == []
    product.check_at_rest()

    # Manage file ingestion: RERUN by SQL, and an ingester that looks only for those.
    (root / "calibrated").touch()
    product.rows(SQL.replace("<files_id>", str(product.file_id("raw_late.fits"))))
    product.land("raw_3.fits")
    done = product.run("runingester", product.quickstart("ingester-rerun.yaml"))
    assert "1 PENDING, 1 SUCCESS" in done.succeeded()
    assert product.history("raw_late.fits")[2:] == ["FAILURE", "RERUN", "PENDING", "SUCCESS"]
    assert product.statuses() == {Status.SUCCESS: 3}

    # Backfill, twice; what is there already is no error.
    backfill_yaml = product.quickstart("backfill.yaml")
    assert "1 added" in product.run("backfill", backfill_yaml).succeeded()
    assert "1 tracked" in product.run("backfill", backfill_yaml).succeeded()
    assert product.history("raw_old.fits") == ["BACKFILL"]

    # The quickstart's ingester takes what is new and leaves the backfilled file alone.
    product.run("runfinder", finder_yaml, "--once").succeeded()
    done = product.run("runingester", ingester_yaml, "--once")
    assert "1 PENDING, 1 SUCCESS, 1 UNTRIED" in done.succeeded()
    assert product.statuses() == {Status.SUCCESS: 4, Status.BACKFILL: 1}
    assert product.rows("SELECT count(*) FROM files") == [(5,)]
    assert product.left_over() == []
    product.check_at_rest()


def test_without_the_legacy_task(product: Product) -> None:
    (product.root / "gen2repo").mkdir()
    done = product.run("runingester", product.quickstart("ingester.yaml"))
    done.refused(
        "ingester.plugin",
        "lsst.pipe.tasks.ingest.IngestTask cannot be imported",
        "removed from the LSST pipelines after v24",
    )
    assert product.is_untouched()


def test_a_root_that_is_no_gen2_repository(product_on_sqlite: Product) -> None:
    product = product_on_sqlite
    (add_legacy_task(product) / "_mapper").unlink()
    done = product.run("runingester", product.quickstart("ingester.yaml"))
    done.refused("butler.root", "no mapper found")
    assert product.is_untouched()
