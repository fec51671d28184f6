"""The demo, from its first step to its last, as `make demo` runs it."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ingest.demo.place import MARKER, NotADemo, make_place
from ingest.demo.samples import Arrival, samples
from ingest.statuses import Status

TOP = Path(__file__).resolve().parent.parent.parent
PASSWORD = "for this test only"


def run_demo(directory: Path, data: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "endpoint_site.settings",
        "DEMO_PASSWORD": PASSWORD,
        # The demo must hide these from the commands that it starts.
        "ENDPOINT_DATA_DIR": str(data),
        "DATABASE_URL": f"sqlite:///{data}/not-this-one.sqlite3",
    }
    return subprocess.run(
        [sys.executable, "manage.py", "demo", "--directory", str(directory)],
        cwd=TOP,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_every_file_comes_out_as_planned(tmp_path: Path) -> None:
    data, directory = tmp_path / "data", tmp_path / "a demo"
    directory.mkdir()
    # What an earlier run left is removed.
    (directory / MARKER).touch()
    (directory / "storage").mkdir()
    (directory / "storage" / "stale.fits").touch()

    done = run_demo(directory, data)

    assert done.returncode == 0, done.stdout + done.stderr
    _check_table(done.stdout)
    _check_disk(directory)
    _check_database(directory)
    _check_repository(directory)
    assert f"password  {PASSWORD}" in done.stdout
    assert not data.exists() or not list(data.glob("*.sqlite3")), "it used another database"


def _check_table(output: str) -> None:
    table = output.partition("What happened to every file")[2]
    for sample in samples():
        arrival = sample.arrival.value
        row = re.search(
            rf"^\s*{re.escape(sample.path)}\s+{arrival}\s+(\w+)\s+(\S+)", table, flags=re.MULTILINE
        )
        assert row, f"{sample.path} ({arrival}) is not in the table:\n{table}"
        assert row[2] == (sample.outcomes[-1] if sample.outcomes else "-")
    assert "NOT AS PLANNED" not in output


def _check_disk(directory: Path) -> None:
    storage = directory / "storage"
    stored = {
        str(path.relative_to(storage))
        for path in storage.rglob("*.fits")
        if not path.name.startswith(".")
    }
    assert stored == {sample.path for sample in samples() if sample.is_taken_in}
    buffer = directory / "buffer"
    left = [str(path.relative_to(buffer)) for path in buffer.rglob("*") if path.is_file()]
    assert left == [one.path for one in samples() if one.arrival is Arrival.OTHER]


def _check_database(directory: Path) -> None:
    with sqlite3.connect(directory / "endpoint.sqlite3") as database:
        rows = database.execute(
            "SELECT status, count(*) FROM ingest_ingestion GROUP BY status"
        ).fetchall()
        rerun = database.execute(
            "SELECT DISTINCT user, note FROM ingest_fileevent WHERE status = 'RERUN'"
        ).fetchall()
    planned = Counter(sample.outcomes[-1] for sample in samples() if sample.outcomes)
    assert dict(rows) == {status.value: count for status, count in planned.items()}
    assert rerun == [("demo", "DECam is registered now")]


def _check_repository(directory: Path) -> None:
    from lsst.daf.butler import Butler

    with Butler.from_config(directory / "repository") as butler:
        refs = butler.query_datasets("raw", collections="*", find_first=False)
        assert len(refs) == sum(sample.datasets for sample in samples())
        for ref in refs:
            assert Path(butler.getURI(ref).ospath).is_file()
        pixels = butler.get("raw", instrument="DECam", exposure=229390, detector=29,
                            collections="DECam/raw/all")  # fmt: skip
    assert pixels.shape == (8, 12)


def test_samples_are_what_the_demo_promises() -> None:
    arrivals = Counter(sample.arrival for sample in samples())
    assert arrivals[Arrival.LANDS] + arrivals[Arrival.SLOWLY] >= 15
    assert arrivals[Arrival.AGAIN] == arrivals[Arrival.OTHER] == arrivals[Arrival.SLOWLY] == 1
    assert sum(sample.outcomes == (Status.FAILURE,) for sample in samples()) == 2
    taken_in = [sample.path for sample in samples() if sample.is_taken_in]
    assert len(taken_in) == len(set(taken_in))


def test_nothing_but_a_demo_is_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(NotADemo, match="was not made by a demo"):
        make_place(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_second_demo_does_not_remove_the_first(tmp_path: Path) -> None:
    place = make_place(tmp_path / "demo")
    with pytest.raises(NotADemo, match="a demo is running"):
        make_place(tmp_path / "demo")
    assert place.finder_yaml.exists()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "demo").touch()
    with pytest.raises(NotADemo, match="is not a directory"):
        make_place(tmp_path / "demo")


def test_surroundings_hide_those_of_the_project(tmp_path: Path) -> None:
    place = make_place(tmp_path / "demo")
    environment = place.environment()
    assert environment["DATABASE_URL"] == place.database_url
    assert environment["ENDPOINT_DATA_DIR"].startswith(str(place.root))
    # Empty is not unset: an unset one would be read from .env.
    assert environment["SECRET_KEY"] == environment["Q_BROKER_URL"] == ""
