"""What a medium holds against what memory says; and what else reads a storage area that is gone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ingest.statuses import Status
from tests.faults.media import Mounts, Recovered, Witness, mounts, product, running, sync
from tests.system.product import Product
from tests.tally import Tally

__all__ = ["mounts", "product"]

#: Directories made while there is room: it is the files whose bytes are to find none.
THIN = ("draft", "buffer/night", "storage/night", "storage/together", "storage/.incoming")


def forget_cached(mounts: Mounts, place: Path, image: Path) -> None:
    """Mount again, so that what is read is what the medium has."""
    mounts.unmount(place)
    mounts.ext4(place, image)


@pytest.mark.full
@pytest.mark.parametrize("count", [2, 12], ids=["fsync", "syncfs"])
def test_writes_that_fail_later(
    product: Product,
    mounts: Mounts,
    tally: Tally,
    tmp_path: Path,
    count: int,
) -> None:
    """The medium fails when the kernel writes to it: what reads well is not to be trusted."""
    base, volume = tmp_path / "base", tmp_path / "volume"
    base.mkdir()
    volume.mkdir()
    thin = mounts.thin(base, volume, *THIN)
    product.buffer, product.storage = base / "buffer", base / "storage"
    with Witness(product) as witness:
        finder, heals = running(product, witness, fsync=True)
        thin.fill()
        witness.land_together("together", count, 100_000)
        product.wait(lambda: len(heals.refusals()) == count, "it says so")
        assert set(heals.refusals().values()) == {"EIO"}
        thin.free()
        took = heals.wait(witness.sent)
    finder.stops()
    forget_cached(mounts, base, volume / "image")
    assert product.files_in(product.storage) == witness.sent
    tally("write to the medium fails", count, took)


def test_storage_unmounted_under_an_ingester(
    product: Product, mounts: Mounts, tally: Tally, tmp_path: Path
) -> None:
    """No file is missing below an empty mount point: none becomes INVALID, none is charged."""
    mounts.ext4(product.storage, tmp_path / "image")
    for number in range(30):
        product.land(f"night/{number}")
    product.run("runfinder", product.finder_yaml(), "--once").succeeded()
    mounts.unmount(product.storage)
    ingester = product.start("runingester", product.ingester_yaml(batch_size=5))
    sql = "SELECT message FROM buffer_component WHERE kind = 'session' AND message <> ''"
    product.wait(lambda: product.value(sql), "it says so")
    assert "is its file system mounted?" in product.value(sql)
    assert product.statuses() == {Status.UNTRIED: 30}
    assert "nothing can be ingested" in ingester.err
    begin = time.monotonic()
    mounts.ext4(product.storage, tmp_path / "image")
    product.wait(lambda: product.statuses() == {Status.SUCCESS: 30}, "they are ingested")
    took = time.monotonic() - begin
    assert product.value("SELECT max(attempts) FROM ingest_ingestion") == 1
    ingester.stops()
    tally("storage unmounted under an ingester", 1, took)


@pytest.mark.full
def test_storage_unmounted_before_backfill(
    product: Product, mounts: Mounts, tally: Tally, tmp_path: Path
) -> None:
    """Sources that match nothing below an empty mount point are not taken for done."""
    mounts.ext4(product.storage, tmp_path / "image")
    config = product.write(
        "backfill.yaml",
        {
            "database": product.database("file_events"),
            "backfill": {"storage": str(product.storage), "sources": ["**"]},
        },
    )
    (product.storage / "night").mkdir()
    (product.storage / "night/a").write_bytes(b"a")
    product.run("backfill", config).succeeded()
    (product.storage / "night/b").write_bytes(b"b")
    mounts.unmount(product.storage)
    done = product.run("backfill", config)
    assert done.status == 1
    assert "is its file system mounted?" in done.err
    assert list(product.storage.iterdir()) == []
    mounts.ext4(product.storage, tmp_path / "image")
    product.run("backfill", config).succeeded()
    assert product.statuses() == {Status.BACKFILL: 2}
    tally("storage unmounted before a backfill", 1)


@pytest.mark.full
def test_stored_copy_rots_while_it_is_remembered(
    product: Product, mounts: Mounts, tally: Tally, tmp_path: Path
) -> None:
    """A duplicate is not deleted because memory still has what the medium lost."""
    image = tmp_path / "image"
    mounts.ext4(product.storage, image)
    content = os.urandom(4096)
    finder, heals = product.start("runfinder", product.finder_yaml(fsync=True)), Recovered(product)
    product.land("a", content)
    product.wait(lambda: product.stored() == 1, "it is stored")
    sync(product.storage)
    at = image.read_bytes().index(content)
    with image.open("r+b") as file:
        file.seek(at)
        file.write(bytes(100))
        os.fsync(file.fileno())
    assert (product.storage / "a").read_bytes() == content, "memory has it"
    again = product.land("a", content)
    product.wait(lambda: not again.exists(), "the duplicate is settled")
    finder.stops()
    assert heals.refusals() == {}
    forget_cached(mounts, product.storage, image)
    assert (product.storage / "a").read_bytes() == content
    tally("stored copy rots while it is in memory", 1)
