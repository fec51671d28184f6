"""A request for many files, carried out by an ingester that is killed in the middle of it."""

from __future__ import annotations

from ingest.statuses import Status
from tests.system.product import Product

FILES = 60

# As the admin does it, but in small chunks.
_ASK = """
from ingest import rerun_jobs
from ingest.models import Ingester, Ingestion
rerun_jobs.BATCH_SIZE = 2
ids = Ingestion.objects.values_list("file", flat=True).order_by("pk")
job = rerun_jobs.ask(Ingester.objects.get(), ids, described="all", user="ann", note="again")
assert job.total == 60
"""


def test_each_file_is_asked_for_once(product: Product) -> None:
    product.start("runfinder", product.finder_yaml())
    for number in range(FILES):
        product.land(f"night/{number:03}.fits")
    ingester = product.start("runingester", product.ingester_yaml("NullIngest"))
    product.wait(lambda: product.statuses() == {Status.SUCCESS: FILES}, "all are ingested")
    product.admin("shell", "-c", _ASK).succeeded()
    # Twice: somewhere in the middle, if it is not faster than we are.
    for _ in range(2):
        product.wait(lambda: progress(product) > 0, "it has begun")
        ingester.kill()
        ingester = product.start("runingester", product.root / "ingester.yaml")
    product.wait(lambda: progress(product) == FILES, "it is done")
    # Attempts that the kill interrupted are UNKNOWN, as everywhere.
    product.wait(lambda: product.final() == FILES, "all are tried again")
    counted = "SELECT COUNT(*) FROM ingest_fileevent WHERE status = 'RERUN' GROUP BY file_id"
    assert product.rows(counted) == [(1,)] * FILES
    assert product.value("SELECT asked FROM ingest_rerunjob") == FILES
    assert product.value("SELECT COUNT(*) FROM ingest_rerunchunk") == 0
    assert product.value("SELECT finished_on FROM ingest_rerunjob") is not None
    ingester.stops()
    product.check_invariants()


def progress(product: Product) -> int:
    done = product.value("SELECT asked + claimed + already + unfit + since FROM ingest_rerunjob")
    return int(done)
