"""The whole way into a real Gen3 Butler repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from fixtures import fits_samples
from ingest.statuses import Status
from tests.system.product import ROOT, Product


@pytest.fixture(scope="session")
def empty_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that knows both cameras and has no files; to be copied."""
    from ingest.butler.repository import make_repository

    return Path(make_repository(tmp_path_factory.mktemp("butler") / "template"))


@pytest.fixture
def repository(empty_repository: Path, product: Product) -> Path:
    """A repository to write to."""
    return Path(shutil.copytree(empty_repository, product.root / "repository"))


def datasets(product: Product, repository: Path) -> str:
    """Ask the repository itself, as its users do."""
    done = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "butler", "query-datasets", str(repository), "raw",
         "--collections", "*", "--show-uri"],
        env={**product.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_mixed_batch(product: Product, repository: Path) -> None:
    """Each file has its own outcome, and the repository has exactly the good ones."""
    night = product.root / "night"
    night.mkdir()
    good = {
        "hsc_37.fits": fits_samples.write_hsc(night / "hsc_37.fits", seed=1),
        "hsc_38.fits": fits_samples.write_hsc(night / "hsc_38.fits", detector=38, seed=2),
        "decam.fits": fits_samples.write_decam(night / "decam.fits", seed=3),
        "with sidecar ü.fits": fits_samples.write_hsc(
            night / "with sidecar ü.fits", exposure=40901, seed=4
        ),
    }
    conflict = fits_samples.write_hsc(night / "same_data_id.fits", seed=9)
    fits_samples.write_hsc(night / "filter.fits", exposure=40902, physical_filter="HSC-quux")
    fits_samples.write_not_fits(night / "page.fits")
    fits_samples.write_broken(night / "cut.fits")
    fits_samples.write_without_header(night / "nobody.fits")
    (night / "empty.fits").touch()
    (night / "notes.txt").write_text("clouds at midnight\n")

    ingester_yaml = product.ingester_yaml(
        "Gen3Ingest", {"root": str(repository)}, batch_size=20, include_list=[r"\.fits$"]
    )
    finder_yaml = product.finder_yaml()
    # First alone, so that it is known which of two files of one data ID is the first.
    product.land("2015-10-10/hsc_37.fits", good["hsc_37.fits"].read_bytes())
    product.run("runfinder", finder_yaml, "--once").succeeded()
    product.run("runingester", ingester_yaml, "--once").succeeded()
    assert product.status_of("hsc_37.fits") == Status.SUCCESS

    for path in sorted(night.iterdir()):
        if path.name != "hsc_37.fits":
            product.land(f"2015-10-10/{path.name}", path.read_bytes())
    # The same file under another name has the same data ID, and is not the same dataset.
    product.land("2015-10-10/copy.fits", good["hsc_37.fits"].read_bytes())
    finder = product.start("runfinder", finder_yaml)
    product.wait(lambda: product.stored() == 12, "all is stored")
    # One is taken away under the ingester's hands before it begins.
    (product.storage / "2015-10-10" / "cut.fits").rename(product.root / "cut.fits")
    ingester = product.start("runingester", ingester_yaml)
    product.wait(lambda: product.final() == 12, "all is through")

    outcomes = {
        name: product.status_of(name)
        for (name,) in product.rows("SELECT filename FROM buffer_file ORDER BY 1")
    }
    assert outcomes == {
        **dict.fromkeys(good, "SUCCESS"),
        "same_data_id.fits": "FAILURE",
        "copy.fits": "FAILURE",
        "filter.fits": "FAILURE",
        "page.fits": "FAILURE",
        "nobody.fits": "FAILURE",
        "cut.fits": "INVALID",
        "empty.fits": "INVALID",
        "notes.txt": "IGNORED",
    }
    assert "quux" in product.message_of("filter.fits").lower()
    messages = {name: product.message_of(name) for name in outcomes if outcomes[name] == "FAILURE"}
    assert len(set(messages.values())) == len(messages), messages

    # Back again, as it was: still broken, and now refused for that.
    (product.root / "cut.fits").rename(product.storage / "2015-10-10" / "cut.fits")
    product.admin("rerun", "--ingester", "file_events", "--path", "*/cut.fits").succeeded()
    product.admin("rerun", "--ingester", "file_events", "--path", "*/hsc_38.fits").succeeded()
    product.wait(lambda: len(product.history("cut.fits")) == 5, "tried again")
    product.wait(lambda: len(product.history("hsc_38.fits")) == 6, "tried again")
    assert product.history("cut.fits")[-1] == "FAILURE"
    assert product.history("hsc_38.fits")[-1] == "SUCCESS"
    assert "already" in product.message_of("hsc_38.fits")
    finder.stops()
    ingester.stops()
    product.check_at_rest()

    listed = datasets(product, repository)
    uris = [line.split()[-1] for line in listed.splitlines() if "file:" in line]
    assert len(uris) == len(good), listed
    for name in good:
        uri = (product.storage / "2015-10-10" / name).as_uri()
        assert uri in listed, f"{name} is not among\n{listed}"
    # Ingested in place: the bytes in storage are the ones that were sent, and there is no copy.
    assert conflict.read_bytes() == (product.storage / "2015-10-10" / conflict.name).read_bytes()
    assert not [path for path in repository.rglob("*.fits") if os.path.isfile(path)]


def test_a_root_that_is_no_repository(product: Product) -> None:
    empty = product.root / "empty"
    empty.mkdir()
    product.land("raw.fits")
    for root, words in (
        (empty, "is not a Butler repository"),
        (product.root / "missing", "make the repository, or correct the path"),
    ):
        yaml = product.ingester_yaml("Gen3Ingest", {"butler": {"root": str(root)}})
        for arguments in (["runingester", yaml], ["runingester", yaml, "--once"]):
            done = product.run(*arguments)
            done.refused(str(yaml), "ingester.plugin.config.butler.root", str(root), words)
    assert not any(empty.iterdir())
    assert product.is_untouched()
