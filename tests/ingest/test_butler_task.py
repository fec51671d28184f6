"""The task that ingests without the stack: real FITS files into a real repository."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy.exc
from astro_metadata_translator import ObservationInfo
from astropy.io import fits
from lsst.daf.butler import Butler, FileDataset

from fixtures import fits_samples as samples
from ingest.butler import batch as batch_module
from ingest.butler.faults import describe, is_transient
from ingest.butler.instruments import HyperSuprimeCam
from ingest.butler.presence import look_up
from ingest.butler.repository import make_repository
from ingest.butler.task import ButlerIngestConfig, ButlerIngestTask, RawExposureData
from ingest.butler.uris import same_file, to_uri
from ingest.plugins.base import Outcome

ROOT = Path(__file__).resolve().parents[2]


def make_task(butler: Butler, transfer: str = "direct", **callbacks: Any) -> ButlerIngestTask:
    config = ButlerIngestConfig()
    config.transfer = transfer
    return ButlerIngestTask(config, butler=butler, **callbacks)


def ingest_one(task: ButlerIngestTask, path: Path, **arguments: Any) -> Outcome:
    outcomes = task.run_batch([str(path)], **arguments)
    assert list(outcomes) == [str(path)]
    return outcomes[str(path)]


def stored(butler: Butler) -> dict[str, str]:
    """What the repository has: path of each dataset by its data ID."""
    butler.registry.refresh()
    found = butler.query_datasets("raw", collections="*", find_first=False, explain=False)
    return {
        f"{ref.dataId['instrument']} {ref.dataId['exposure']} {ref.dataId['detector']}": (
            butler.getURI(ref).ospath
        )
        for ref in found
    }


class Calls:
    """Callbacks of a task, written down."""

    def __init__(self) -> None:
        self.successes: list[list[FileDataset]] = []
        self.metadata: list[tuple[str, Exception]] = []
        self.ingest: list[tuple[RawExposureData, Exception]] = []
        self.records: list[Any] = []

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_success": self.successes.append,
            "on_metadata_failure": lambda uri, error: self.metadata.append((uri.ospath, error)),
            "on_ingest_failure": lambda exposure, error: self.ingest.append((exposure, error)),
            "on_exposure_record": self.records.append,
        }


def test_each_file_of_a_mixed_batch_gets_its_own_outcome(butler: Butler, raws: Path) -> None:
    calls = Calls()
    task = make_task(butler, **calls.callbacks())
    already = samples.write_hsc(raws / "already.fits", exposure=40890)
    rival = samples.write_hsc(raws / "rival.fits", exposure=40892)
    assert all(each.ok for each in task.run_batch([str(already), str(rival)]).values())

    good = samples.write_hsc(raws / "good.fits")
    sibling = samples.write_hsc(raws / "sibling.fits", detector=38)
    decam = samples.write_decam(raws / "decam.fits", detector=(25, 26))
    expected = {
        good: (True, ""),
        sibling: (True, ""),
        decam: (True, ""),
        already: (True, "already ingested"),
        samples.write_hsc(raws / "duplicate.fits"): (False, "a duplicate under another name"),
        samples.write_hsc(raws / "conflict.fits", exposure=40892, seed=1): (
            False,
            f"already has HSC exposure 40892 detector 37 from {rival}, with other content",
        ),
        samples.write_hsc(raws / "metadata.fits", detector=39, target="Moon"): (
            False,
            "other metadata for HSC exposure 40900",
        ),
        samples.write_broken(raws / "broken.fits"): (False, "not a readable FITS file"),
        samples.write_not_fits(raws / "page.fits"): (False, "not a readable FITS file"),
        samples.write_without_header(raws / "bare.fits"): (False, "no metadata translator"),
        samples.write_decam(raws / "no_ccd.fits", detector=()): (False, "describes a detector"),
        samples.write_hsc(raws / "filter.fits", exposure=40894, physical_filter="HSC-Q"): (
            False,
            "filter 'HSC-Q' (nearest: 'HSC-Z') of instrument HSC is not registered",
        ),
        samples.write_hsc(raws / "key.fits", exposure=40896, extra={"DET-ID": None}): (
            False,
            "HSC header: no usable detector_num",
        ),
        raws / "missing.fits": (False, "the file is missing"),
        raws: (False, "not a regular file"),
    }
    paths = [str(path) for path in expected]
    outcomes = task.run_batch([*paths, str(good)])

    assert set(outcomes) == set(paths)
    for path, (ok, message) in expected.items():
        outcome = outcomes[str(path)]
        assert (outcome.ok, outcome.transient) == (ok, False), outcome
        assert message in outcome.message if message else outcome.message == ""
    assert stored(butler) == {
        "HSC 40890 37": str(already),
        "HSC 40892 37": str(rival),
        "HSC 40900 37": str(good),
        "HSC 40900 38": str(sibling),
        "DECam 229388 25": str(decam),
        "DECam 229388 26": str(decam),
    }
    assert {record.id for record in calls.records} == {40890, 40892, 40900, 229388}


def test_run_reports_by_callbacks_as_the_stacks_task_does(butler: Butler, raws: Path) -> None:
    calls = Calls()
    task = make_task(butler, **calls.callbacks())
    good = samples.write_hsc(raws / "good.fits")
    metadata = samples.write_hsc(raws / "metadata.fits", detector=38, target="Moon")
    junk = samples.write_not_fits(raws / "junk.fits")
    with pytest.raises(RuntimeError, match="2 of 3 files"):
        task.run([good, metadata, junk], processes=4, num_workers=4, pool=object(), run="night")

    (datasets,) = calls.successes
    assert [dataset.path.ospath for dataset in datasets] == [str(good)]
    assert [ref.run for ref in datasets[0].refs] == ["night"]
    ((path, error),) = calls.metadata
    assert path == str(junk)
    assert "FITS" in str(error)
    ((exposure, _),) = calls.ingest
    assert [file.filename.ospath for file in exposure.files] == [str(metadata)]
    assert exposure.dataId["exposure"] == 40900
    assert [record.id for record in calls.records] == [40900]


def test_run_returns_references_and_can_fail_fast(butler: Butler, raws: Path) -> None:
    task = make_task(butler)
    good = samples.write_decam(raws / "good.fits", detector=(1, 2))
    refs = task.run([good])
    assert sorted(ref.dataId["detector"] for ref in refs) == [1, 2]
    task.config.failFast = True
    with pytest.raises(ValueError, match="not a readable FITS file"):
        task.run([samples.write_not_fits(raws / "junk.fits")])


def test_run_searches_directories_for_fits_files(butler: Butler, raws: Path) -> None:
    samples.write_hsc(raws / "one.fits", detector=1)
    (raws / "below").mkdir()
    samples.write_hsc(raws / "below" / "two.fits", detector=2)
    (raws / "notes.txt").write_text("no FITS name")
    assert len(make_task(butler).run([str(raws)])) == 2


def test_skip_ingest_writes_the_exposure_only(butler: Butler, raws: Path) -> None:
    make_task(butler).run([samples.write_hsc(raws / "good.fits")], skip_ingest=True)
    assert stored(butler) == {}
    assert butler.query_dimension_records("exposure", instrument="HSC", exposure=40900)


def test_callbacks_that_raise_change_nothing(
    butler: Butler,
    raws: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def bad(*_: object) -> None:
        raise ZeroDivisionError

    task = make_task(butler, on_success=bad, on_metadata_failure=bad, on_exposure_record=bad)
    paths = [samples.write_hsc(raws / "a.fits"), samples.write_not_fits(raws / "b.fits")]
    outcomes = task.run_batch([str(path) for path in paths])
    assert [each.ok for each in outcomes.values()] == [False, True]
    assert len(stored(butler)) == 1
    assert "a callback of the ingest task failed" in caplog.text


def test_pixels_come_back(butler: Butler, raws: Path) -> None:
    hsc = samples.write_hsc(raws / "hsc.fits", seed=5)
    decam = samples.write_decam(raws / "decam.fits", detector=(25, 26), seed=6)
    refs = make_task(butler).run([hsc, decam])
    pixels = {(ref.dataId["instrument"], ref.dataId["detector"]): butler.get(ref) for ref in refs}
    assert np.array_equal(pixels["HSC", 37], fits.getdata(hsc))
    assert np.array_equal(pixels["DECam", 25], fits.getdata(decam, 1))
    assert np.array_equal(pixels["DECam", 26], fits.getdata(decam, 2))
    assert not np.array_equal(pixels["DECam", 25], pixels["DECam", 26])


def test_formatter_says_when_the_detector_is_not_in_the_file(butler: Butler, raws: Path) -> None:
    path = samples.write_decam(raws / "decam.fits", detector=25)
    (ref,) = make_task(butler).run([path])
    samples.write_decam(path, detector=26)
    with pytest.raises(Exception, match="no image of detector 25"):
        butler.get(ref)


def test_command_line_and_another_process_can_read(
    butler: Butler,
    repository: Path,
    raws: Path,
) -> None:
    path = samples.write_hsc(raws / "r a.fits")
    assert ingest_one(make_task(butler), path).ok
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = Path(sys.executable).parent / "butler"
    listed = subprocess.run(
        [command, "query-datasets", repository, "raw", "--collections", "*", "--show-uri"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=120,
    )
    row = listed.stdout.strip().splitlines()[-1].split()
    assert row[:2] == ["raw", "HSC/raw/all"]
    assert " ".join(row[3:-1]) == "HSC 37 40900 r 20151010 40900 HSC-R"
    assert row[-1] == to_uri(path).geturl()

    script = (
        "import sys; from lsst.daf.butler import Butler\n"
        "b = Butler.from_config(sys.argv[1], collections='HSC/raw/all')\n"
        "print(int(b.get('raw', instrument='HSC', detector=37, exposure=40900).sum()))"
    )
    got = subprocess.run(
        [sys.executable, "-c", script, repository],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=120,
    )
    assert int(got.stdout) == int(fits.getdata(path).sum())


def test_names_are_taken_literally(butler: Butler, raws: Path) -> None:
    names = ["a#b.fits", "%41.fits", "q?x=1.fits", "späß [1] *.fits", "x.fits.fz", "new\nline.fits"]
    paths = [
        samples.write_hsc(raws / "plain.fits", detector=index).rename(raws / name)
        for index, name in enumerate(names)
    ]
    outcomes = make_task(butler).run_batch([str(path) for path in paths])
    assert all(each.ok for each in outcomes.values()), outcomes
    assert set(stored(butler).values()) == {str(path) for path in paths}
    again = make_task(butler).run_batch([str(path) for path in paths])
    assert {each.message for each in again.values()} == {"already ingested"}


def test_a_name_that_is_not_utf8_is_refused(butler: Butler, raws: Path) -> None:
    path = os.fsdecode(bytes(raws) + b"/caf\xe9.fits")
    samples.write_hsc(raws / "x.fits").rename(path)
    outcome = make_task(butler).run_batch([path])[path]
    assert (outcome.ok, outcome.message) == (
        False,
        "the file's name is not valid UTF-8; the Butler cannot record it",
    )


def test_a_file_cut_short_is_refused(butler: Butler, raws: Path) -> None:
    path = samples.write_decam(raws / "cut.fits", detector=(1, 2))
    path.write_bytes(path.read_bytes()[:-2800])
    assert "cut short" in ingest_one(make_task(butler), path).message
    empty = raws / "empty.fits"
    empty.touch()
    assert ingest_one(make_task(butler), empty).message == "the file is empty"


def test_the_second_of_two_rivals_gets_in_when_the_first_does_not(
    butler: Butler,
    raws: Path,
) -> None:
    task = make_task(butler)
    assert ingest_one(task, samples.write_hsc(raws / "first.fits", detector=1)).ok
    wrong = samples.write_hsc(raws / "wrong.fits", detector=2, target="Moon")
    right = samples.write_hsc(raws / "right.fits", detector=2)
    late = samples.write_hsc(raws / "late.fits", detector=2, seed=9)
    outcomes = task.run_batch([str(wrong), str(right), str(late)])
    assert [outcomes[str(path)].ok for path in (wrong, right, late)] == [False, True, False]
    assert str(right) in outcomes[str(late)].message


def test_files_that_disagree_on_their_exposure_are_refused_in_one_batch_too(
    butler: Butler,
    raws: Path,
) -> None:
    one = samples.write_hsc(raws / "one.fits", detector=1)
    other = samples.write_hsc(raws / "other.fits", detector=2, target="Moon")
    outcomes = make_task(butler).run_batch([str(one), str(other)])
    assert [each.ok for each in outcomes.values()] == [True, False]


def test_update_exposure_records_replaces_metadata(butler: Butler, raws: Path) -> None:
    task = make_task(butler)
    path = samples.write_hsc(raws / "a.fits")
    assert ingest_one(task, path).ok
    samples.write_hsc(path, target="Moon")
    outcome = ingest_one(task, path, update_exposure_records=True)
    assert (outcome.ok, outcome.message) == (True, "already ingested")
    (record,) = butler.query_dimension_records("exposure", instrument="HSC", exposure=40900)
    assert record.target_name == "Moon"


def test_skip_existing_makes_a_conflict_a_success_with_a_note(
    butler: Butler,
    raws: Path,
) -> None:
    task = make_task(butler)
    kept = samples.write_hsc(raws / "kept.fits")
    assert ingest_one(task, kept).ok
    outcome = ingest_one(
        task, samples.write_hsc(raws / "other.fits", seed=1), skip_existing_exposures=True
    )
    assert outcome.ok
    assert outcome.message.startswith("skipped (conflict: the repository already has")
    assert stored(butler) == {"HSC 40900 37": str(kept)}


def test_track_file_attrs_decides_about_sizes(butler: Butler, raws: Path) -> None:
    task = make_task(butler)
    path = samples.write_hsc(raws / "a.fits")
    assert ingest_one(task, path, track_file_attrs=False).ok
    (ref,) = butler.query_datasets("raw", collections="HSC/raw/all")
    fits.append(path, np.zeros((4, 4), dtype=np.int16))
    # With the size recorded, reading a file that has changed is an error.
    assert butler.get(ref) is not None


@pytest.mark.parametrize("transfer", ["copy", "hardlink", "symlink", "link", "relsymlink"])
def test_other_transfers_know_their_files_again(
    butler: Butler,
    raws: Path,
    transfer: str,
) -> None:
    task = make_task(butler, transfer=transfer)
    path = samples.write_hsc(raws / "a.fits")
    assert ingest_one(task, path).ok
    (inside,) = stored(butler).values()
    assert "repository" in inside
    assert path.exists()
    assert ingest_one(task, path).message == "already ingested"
    other = samples.write_hsc(raws / "b.fits", seed=1)
    outcome = ingest_one(task, other)
    assert not outcome.ok
    assert "with other content" in outcome.message


def test_a_filter_registered_elsewhere_is_found_without_a_restart(
    butler: Butler,
    open_repository: Callable[[], Butler],
    raws: Path,
) -> None:
    task = make_task(butler)
    path = samples.write_hsc(raws / "a.fits", physical_filter="HSC-Q")
    assert not ingest_one(task, path).ok
    with open_repository() as other:
        other.registry.syncDimensionData(
            "physical_filter", {"instrument": "HSC", "name": "HSC-Q", "band": "q"}
        )
    assert ingest_one(task, path).ok


def test_an_instrument_registered_elsewhere_is_found_without_a_restart(
    tmp_path: Path,
    raws: Path,
) -> None:
    root = make_repository(tmp_path / "bare", instruments=["DECam"])
    path = samples.write_hsc(raws / "a.fits")
    with Butler.from_config(root, writeable=True) as butler:
        task = make_task(butler)
        outcome = ingest_one(task, path)
        assert not outcome.ok
        assert outcome.message == (
            "instrument HSC is not registered in the repository (registered: DECam); run: butler "
            "register-instrument REPOSITORY ingest.butler.instruments.HyperSuprimeCam"
        )
        make_repository(root, instruments=["ingest.butler.instruments.HyperSuprimeCam"])
        assert ingest_one(task, path).ok


def test_an_instrument_whose_class_is_not_installed_is_named(tmp_path: Path, raws: Path) -> None:
    root = make_repository(tmp_path / "bare", instruments=["HSC"])
    with Butler.from_config(root, writeable=True) as butler:
        butler.registry.syncDimensionData(
            "instrument",
            {
                "name": "HSC",
                "class_name": "lsst.obs.subaru.HyperSuprimeCam",
                "detector_max": 112,
                "exposure_max": HyperSuprimeCam.exposure_max,
                "visit_max": HyperSuprimeCam.exposure_max,
                "visit_system": 0,
            },
            update=True,
        )
        outcome = ingest_one(make_task(butler), samples.write_hsc(raws / "a.fits"))
    assert not outcome.ok
    assert "lsst.obs" in outcome.message
    assert "install the package that has it" in outcome.message


def test_unknown_detector_is_named(butler: Butler, raws: Path) -> None:
    # The guide and focus CCDs of DECam are not translated; so one must be declared.
    path = samples.write_decam(raws / "a.fits", detector=25)
    sidecar_header = dict(fits.getheader(path, 0)) | dict(fits.getheader(path, 1))
    sidecar_header["CCDNUM"] = 63
    path.with_suffix(".json").write_text(json.dumps(sidecar_header))
    outcome = ingest_one(make_task(butler), path)
    assert "detector 63 of instrument DECam is not registered" in outcome.message


def test_a_sidecar_is_read_instead_of_the_header(butler: Butler, raws: Path) -> None:
    task = make_task(butler)
    path = samples.write_without_header(raws / "x.fits")
    model = samples.write_hsc(raws / "model.fits", exposure=40950)
    sidecar = path.with_suffix(".json")
    header = fits.getheader(model)
    sidecar.write_text(json.dumps({**header, "__CONTENT__": "metadata"}))
    assert ingest_one(task, path).ok
    assert stored(butler) == {"HSC 40950 37": str(path)}

    translated = samples.write_without_header(raws / "y.fits")
    model = samples.write_hsc(raws / "model.fits", exposure=40960)
    info = ObservationInfo(fits.getheader(model), pedantic=False)
    content = {**info.to_simple(), "__CONTENT__": "translated"}
    translated.with_suffix(".json").write_text(json.dumps(content))
    outcome = ingest_one(task, translated)
    assert outcome.ok, outcome.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "does not hold one header"),
        ('{"__CONTENT__": "translated", "instrument": "HSC"}', "lacks datetime_begin"),
        ('{"__CONTENT__": "translated", "nonsense": 1}', "cannot be used"),
        ('{"OBJECT": "x"}', "no metadata translator"),
    ],
)
def test_a_bad_sidecar_is_named(
    butler: Butler,
    raws: Path,
    content: str,
    message: str,
) -> None:
    path = samples.write_hsc(raws / "x.fits")
    path.with_suffix(".json").write_text(content)
    outcome = ingest_one(make_task(butler), path)
    assert not outcome.ok
    assert message in outcome.message


def test_header_without_site_is_translated_without_the_network(butler: Butler, raws: Path) -> None:
    extra = {"OBS-LONG": None, "OBS-LAT": None, "OBS-ELEV": None}
    assert ingest_one(make_task(butler), samples.write_decam(raws / "a.fits", extra=extra)).ok


def test_times_that_contradict_each_other_are_refused(butler: Butler, raws: Path) -> None:
    path = samples.write_decam(raws / "a.fits", extra={"DTUTC": "2013-08-30T00:00:00"})
    assert "before it begins" in ingest_one(make_task(butler), path).message


def test_a_batch_that_fails_as_a_whole_is_tried_one_by_one(
    butler: Butler,
    open_repository: Callable[[], Butler],
    raws: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = make_task(butler)
    raced = samples.write_hsc(raws / "raced.fits", exposure=40890)
    lost = samples.write_hsc(raws / "lost.fits", exposure=40892)
    rival = samples.write_hsc(raws / "rival.fits", exposure=40892, seed=1)
    good = samples.write_hsc(raws / "good.fits")
    calls = 0

    def look_up_and_be_overtaken(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        found = look_up(*args)
        if calls == 1:
            with open_repository() as other:
                outcomes = make_task(other).run_batch([str(raced), str(rival)])
            assert all(each.ok for each in outcomes.values())
        return found

    monkeypatch.setattr(batch_module, "look_up", look_up_and_be_overtaken)
    # Only the first look is followed by another writer's; that one looks up too.
    outcomes = task.run_batch([str(raced), str(lost), str(good)])
    assert outcomes[str(raced)] == Outcome.success(str(raced), "already ingested")
    assert not outcomes[str(lost)].ok
    assert str(rival) in outcomes[str(lost)].message
    assert outcomes[str(good)] == Outcome.success(str(good))


def test_a_repositorys_file_that_is_gone_is_a_conflict_that_says_so(
    butler: Butler,
    raws: Path,
) -> None:
    task = make_task(butler)
    old = samples.write_hsc(raws / "old.fits")
    assert ingest_one(task, old).ok
    old.unlink()
    outcome = ingest_one(task, samples.write_hsc(raws / "new.fits"))
    assert not outcome.ok
    assert f"from {old}, which is not there any more" in outcome.message


def test_a_database_that_does_not_answer_is_transient_and_asked_once(
    butler: Butler,
    raws: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    def busy() -> Any:
        nonlocal asked
        asked += 1
        raise sqlalchemy.exc.OperationalError("BEGIN", {}, sqlite3.OperationalError("locked"))

    task = make_task(butler)
    monkeypatch.setattr(butler, "transaction", busy)
    paths = [str(samples.write_hsc(raws / f"{n}.fits", detector=n)) for n in range(3)]
    outcomes = task.run_batch(paths)
    assert [(each.ok, each.transient) for each in outcomes.values()] == [(False, True)] * 3
    assert asked == 1


def test_configuration_and_dimensions_are_checked(butler: Butler) -> None:
    config = ButlerIngestConfig()
    with pytest.raises(Exception, match="move"):
        config.transfer = "move"
    with pytest.raises(TypeError):
        ButlerIngestTask(butler=butler, unknown=1)  # type: ignore[call-arg]


def test_repository_helper_refuses_unknown_instruments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of HSC, DECam"):
        make_repository(tmp_path / "r", instruments=["LATISS"])
    with pytest.raises(ValueError, match="is no lsst"):
        make_repository(tmp_path / "r", instruments=["pathlib.Path"])
    assert not (tmp_path / "r").exists()


def test_repository_helper_registers_a_run(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "r", run="HSC/raw/all")
    with Butler.from_config(root) as butler:
        assert list(butler.collections.query("*")) == ["HSC/raw/all"]
        assert {r.name for r in butler.query_dimension_records("instrument")} == {"HSC", "DECam"}
        assert len(butler.query_dimension_records("detector", instrument="HSC")) == 112
        assert len(butler.query_dimension_records("detector", instrument="DECam")) == 62


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (OSError(errno.EIO, "I/O error"), True),
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.ENOENT, "gone"), False),
        (OSError("No SIMPLE card found"), False),
        (OSError(errno.EROFS, "remounted"), True),
        (OSError(errno.ENOTCONN, "not mounted"), True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), True),
        (ConnectionResetError(), True),
        (sqlite3.OperationalError("database is locked"), True),
        (sqlite3.IntegrityError("UNIQUE"), False),
        (KeyError("EXPNUM"), False),
        (MemoryError(), True),
    ],
)
def test_trouble_of_the_machine_is_transient_also_when_wrapped(
    error: Exception, transient: bool
) -> None:
    assert is_transient(error) is transient
    try:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("wrapped") from cause
    except RuntimeError as wrapped:
        assert is_transient(wrapped) is transient


def test_descriptions_are_one_printable_line_of_bounded_length() -> None:
    assert describe(ValueError("a\nb\x1b[31m")) == "ValueError: a b\\x1b[31m"
    assert describe(KeyError("EXPNUM")) == "KeyError: EXPNUM"
    assert describe(TimeoutError()) == "TimeoutError"
    assert len(describe(ValueError("x" * 10_000))) < 520


def test_same_file_follows_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = samples.write_hsc(tmp_path / "real" / "a.fits")
    (tmp_path / "alias").symlink_to("real")
    assert same_file(to_uri(path), to_uri(tmp_path / "alias" / "a.fits"), "direct")
    copy = samples.write_hsc(tmp_path / "copy.fits")
    assert not same_file(to_uri(path), to_uri(copy), "direct")
    assert same_file(to_uri(path), to_uri(copy), "copy")
