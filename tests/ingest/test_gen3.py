"""Gen3Ingest: with the task of our own and with one like the stack's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.exc
import yaml
from astropy.io import fits
from lsst.daf.butler import Butler, CollectionType

from fixtures import fits_samples as samples
from ingest.butler.repository import make_repository
from ingest.plugin_config import Gen3Config
from ingest.plugins.base import Outcome, PluginConfigError, SupportsContains
from ingest.plugins.gen3 import Gen3Ingest
from tests.conftest import SHARED
from tests.ingest import fake_stack

ROOT = Path(__file__).resolve().parents[2]
FAKE = "tests.ingest.fake_stack"
FAKE_RAW = {"task": f"{FAKE}.RawIngestTask"}
FAKE_VISITS = {"instrument": "HSC", "task": f"{FAKE}.DefineVisitsTask"}


@pytest.fixture(autouse=True)
def forget_calls() -> Iterator[None]:
    for task in (fake_stack.RawIngestTask, fake_stack.DefineVisitsTask):
        task.made.clear()
        task.calls.clear()
    yield
    fake_stack.RawIngestTask.broken = None
    fake_stack.DefineVisitsTask.bad.clear()


def make_plugin(repository: Path, **sections: Any) -> Gen3Ingest:
    """Make the plugin from configuration as the ingester hands it over."""
    given = {"butler": {"root": str(repository)}, **sections}
    return Gen3Ingest(Gen3Config.model_validate(given).normalised())


def ingest(plugin: Gen3Ingest, *paths: Path) -> dict[Path, Outcome]:
    outcomes = list(plugin.ingest([str(path) for path in paths]))
    assert len({outcome.path for outcome in outcomes}) == len(outcomes)
    assert {outcome.path for outcome in outcomes} == {str(path) for path in paths}
    return {Path(outcome.path): outcome for outcome in outcomes}


def run_python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )


# Loading it


def test_import_does_not_need_the_packages() -> None:
    script = (
        "import sys, ingest.plugins.gen3\n"
        "assert not {m.split('.')[0] for m in sys.modules} & {'lsst', 'astropy', 'django'}"
    )
    result = run_python(script)
    assert result.returncode == 0, result.stderr


def test_missing_packages_are_a_configuration_error(repository: Path) -> None:
    script = (
        "import sys; sys.modules['lsst.daf.butler'] = None\n"
        "from ingest.plugins.gen3 import Gen3Ingest\n"
        "Gen3Ingest({'butler': {'root': sys.argv[1]}})"
    )
    result = run_python(script, repository)
    assert "PluginConfigError" in result.stderr
    assert "pip install -r requirements-butler.txt" in result.stderr


def test_version_names_the_butler_and_the_task(repository: Path) -> None:
    butler = "lsst.daf.butler 30.2026.4300"
    assert make_plugin(repository).version() == f"{butler}, ingest.butler 1.0.0"
    assert make_plugin(repository, ingest=FAKE_RAW).version() == f"{butler}, {FAKE}.RawIngestTask"


def test_minimal_configuration_is_enough(repository: Path, raws: Path) -> None:
    plugin = Gen3Ingest({"butler": {"root": str(repository)}})
    assert isinstance(plugin, SupportsContains)
    assert all(each.ok for each in ingest(plugin, samples.write_hsc(raws / "a.fits")).values())


def test_falls_back_to_our_task_and_says_so(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    make_plugin(repository)
    assert "lsst.obs.base is not installed: ingesting with ingest.butler" in caplog.text


# Wrong configuration


def test_a_root_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginConfigError, match=r"plugin\.config\.butler\.root: required"):
        Gen3Ingest({})
    with pytest.raises(PluginConfigError, match=r"butler\.root: .*does not exist.*butler create"):
        make_plugin(tmp_path / "nothing")
    with pytest.raises(PluginConfigError, match=r"butler\.root: .*is not a Butler repository"):
        make_plugin(tmp_path)


def test_a_damaged_repository_is_refused(repository: Path) -> None:
    (repository / "butler.yaml").write_text("datastore: {cls: no.such.Datastore}\n")
    with pytest.raises(PluginConfigError, match=r"butler\.root: .*cannot be opened"):
        make_plugin(repository)


def test_a_collection_of_another_kind_is_refused(repository: Path, butler: Butler) -> None:
    butler.collections.register("chain", CollectionType.CHAINED)
    with pytest.raises(PluginConfigError, match=r"butler\.collection: chain is a CHAINED"):
        make_plugin(repository, butler={"root": str(repository), "collection": "chain"})
    butler.collections.register("night")
    make_plugin(repository, butler={"root": str(repository), "collection": "night"})


@pytest.mark.parametrize("task", ["lsst.obs.nowhere.Task", f"{FAKE}.NoSuchTask", "Task"])
def test_a_task_that_cannot_be_imported_is_refused(repository: Path, task: str) -> None:
    with pytest.raises(PluginConfigError, match=r"plugin\.config\.ingest\.task: .*cannot be"):
        Gen3Ingest({"butler": {"root": str(repository)}, "ingest": {"task": task}})


def test_a_task_that_cannot_be_made_is_refused(repository: Path) -> None:
    with pytest.raises(PluginConfigError, match=r"ingest\.task: .*needs a camera"):
        make_plugin(repository, ingest={"task": f"{FAKE}.UnmakeableTask"})


def test_move_is_refused_wherever_it_comes_from(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text("config.transfer = 'move'\n")
    for section in ({"transfer": "move"}, {"config": {"transfer": "move"}}):
        with pytest.raises(PluginConfigError, match=r"ingest.*transfer"):
            Gen3Ingest({"butler": {"root": str(repository)}, "ingest": section})
    with pytest.raises(PluginConfigError, match=r"ingest\.transfer: move would take"):
        make_plugin(repository, ingest={**FAKE_RAW, "config_file": str(file)})


def test_task_configuration_errors_name_their_key(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(PluginConfigError, match=r"plugin\.config\.ingest\.config\.nonsense"):
        make_plugin(repository, ingest={"config": {"nonsense": 1}})
    with pytest.raises(PluginConfigError, match=r"ingest\.config_file: .*is not a file"):
        make_plugin(repository, ingest={"config_file": str(tmp_path / "nothing.py")})
    bad = tmp_path / "bad.py"
    bad.write_text("config.nonsense = 1\n")
    with pytest.raises(PluginConfigError, match=r"ingest\.config_file: .*no valid configuration"):
        make_plugin(repository, ingest={"config_file": str(bad)})


def test_visits_without_the_stack_are_refused(repository: Path) -> None:
    with pytest.raises(PluginConfigError, match=r"plugin\.config\.visits: .*DefineVisitsTask"):
        make_plugin(repository, visits={"instrument": "HSC"})
    for name in ("LATISS", "no.such.Instrument", "pathlib.Path"):
        with pytest.raises(PluginConfigError, match=r"visits\.instrument: .*register-instrument"):
            make_plugin(repository, visits={**FAKE_VISITS, "instrument": name})
    with pytest.raises(PluginConfigError, match=r"visits\.instrument: required"):
        Gen3Ingest({"butler": {"root": str(repository)}, "visits": {"task": FAKE_VISITS["task"]}})


def test_a_database_out_of_reach_is_not_a_configuration_error(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlalchemy.exc.OperationalError("connect", {}, ConnectionRefusedError())

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Butler, "from_config", refuse)
    with pytest.raises(sqlalchemy.exc.OperationalError):
        make_plugin(repository)


def test_a_butler_is_not_used_after_a_fork(repository: Path, raws: Path) -> None:
    script = (
        "import os, sys\n"
        "from ingest.plugins.gen3 import Gen3Ingest\n"
        "plugin = Gen3Ingest({'butler': {'root': sys.argv[1]}})\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try:\n"
        "        list(plugin.ingest([sys.argv[2]]))\n"
        "    except RuntimeError as error:\n"
        "        os._exit(7 if 'across fork' in str(error) else 1)\n"
        "    os._exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    result = run_python(script, repository, samples.write_hsc(raws / "a.fits"))
    assert result.stdout.strip() == "7", result.stderr


# Batches: the same expectations of both tasks


@pytest.mark.parametrize("task", [{}, FAKE_RAW], ids=["ours", "stack"])
def test_each_file_of_a_mixed_batch_gets_its_own_outcome(
    repository: Path, raws: Path, task: dict[str, str]
) -> None:
    plugin = make_plugin(repository, ingest=task)
    already = samples.write_hsc(raws / "already.fits", exposure=40890)
    partner = samples.write_hsc(raws / "partner.fits", exposure=40892)
    assert all(each.ok for each in ingest(plugin, already, partner).values())

    expected = {
        samples.write_hsc(raws / "good.fits"): (True, ""),
        samples.write_decam(raws / "decam.fits", detector=(25, 26)): (True, ""),
        already: (True, "already ingested"),
        # A sibling of the file that is there already.
        samples.write_hsc(raws / "sibling.fits", exposure=40890, detector=38): (True, ""),
        samples.write_hsc(raws / "conflict.fits", exposure=40892, seed=1): (
            False,
            f"already has HSC exposure 40892 detector 37 from {partner}, with other content",
        ),
        samples.write_hsc(raws / "duplicate.fits", exposure=40892): (False, "with the same"),
        samples.write_broken(raws / "broken.fits"): (False, "not a readable FITS file"),
        samples.write_not_fits(raws / "page.fits"): (False, "not a readable FITS file"),
        samples.write_without_header(raws / "bare.fits"): (False, "no metadata translator"),
        samples.write_decam(raws / "no_ccd.fits", detector=()): (False, "header"),
        samples.write_hsc(raws / "filter.fits", exposure=40894, physical_filter="HSC-Q"): (
            False,
            "HSC-Q",
        ),
        raws / "missing.fits": (False, "the file is missing"),
        raws: (False, "not a regular file"),
    }
    outcomes = ingest(plugin, *expected)
    for path, (ok, message) in expected.items():
        outcome = outcomes[path]
        assert (outcome.ok, outcome.transient) == (ok, False), outcome
        assert message in outcome.message if message else outcome.message == ""
    there = {str(path) for path, outcome in outcomes.items() if outcome.ok}
    assert set(plugin.contains([str(path) for path in expected])) == there


@pytest.mark.parametrize("task", [{}, FAKE_RAW], ids=["ours", "stack"])
def test_a_repeated_path_has_one_outcome(
    repository: Path, raws: Path, task: dict[str, str]
) -> None:
    path = str(samples.write_hsc(raws / "a.fits"))
    plugin = make_plugin(repository, ingest=task)
    assert list(plugin.ingest([path, path])) == [Outcome.success(path)]


@pytest.mark.parametrize("task", [{}, FAKE_RAW], ids=["ours", "stack"])
def test_what_is_registered_later_is_found(
    tmp_path: Path, raws: Path, task: dict[str, str]
) -> None:
    root = Path(make_repository(tmp_path / "bare", instruments=["DECam"]))
    plugin = make_plugin(root, ingest=task)
    hsc = samples.write_hsc(raws / "hsc.fits")
    odd = samples.write_decam(raws / "odd.fits", physical_filter="new DECam filter")
    outcomes = ingest(plugin, hsc, odd)
    assert "register-instrument" in outcomes[hsc].message
    assert "register-instrument" in outcomes[odd].message
    assert not outcomes[hsc].transient
    make_repository(root, instruments=["HSC"])
    with Butler.from_config(root, writeable=True) as other:
        other.registry.syncDimensionData(
            "physical_filter", {"instrument": "DECam", "name": "new DECam filter", "band": "n"}
        )
    assert [each.ok for each in ingest(plugin, hsc, odd).values()] == [True, True]


@pytest.mark.parametrize("task", [{}, FAKE_RAW], ids=["ours", "stack"])
def test_run_collection_is_the_configured_one(
    repository: Path, butler: Butler, raws: Path, task: dict[str, str]
) -> None:
    plugin = make_plugin(
        repository, butler={"root": str(repository), "collection": "u/me"}, ingest=task
    )
    path = samples.write_hsc(raws / "a.fits")
    assert ingest(plugin, path)[path].ok
    assert set(plugin.contains([str(path)])) == {str(path)}
    butler.registry.refresh()
    assert len(butler.query_datasets("raw", collections="u/me")) == 1


@pytest.mark.parametrize("task", [{}, FAKE_RAW], ids=["ours", "stack"])
def test_skipped_files_are_successes_with_a_note(
    repository: Path, raws: Path, task: dict[str, str]
) -> None:
    plugin = make_plugin(repository, ingest={**task, "skip_existing_exposures": True})
    kept = samples.write_hsc(raws / "kept.fits")
    assert ingest(plugin, kept)[kept] == Outcome.success(str(kept))
    other = samples.write_hsc(raws / "other.fits", seed=1)
    outcome = ingest(plugin, other)[other]
    assert outcome.ok
    assert "skipped" in outcome.message
    assert str(kept) in outcome.message
    assert plugin.contains([str(other)]) == set()


def test_contains_sees_what_another_process_ingested(
    repository: Path, butler: Butler, raws: Path
) -> None:
    plugin = make_plugin(repository)
    path = samples.write_hsc(raws / "a.fits")
    copy = samples.write_hsc(raws / "copy.fits")
    assert plugin.contains([str(path)]) == set()
    other = make_plugin(repository)
    assert ingest(other, path)[path].ok
    junk = samples.write_not_fits(raws / "junk.fits")
    asked = [str(path), str(copy), str(junk), str(raws / "missing.fits")]
    assert plugin.contains(asked) == {str(path)}


@pytest.mark.parametrize("task", [{}, FAKE_RAW], ids=["ours", "stack"])
def test_a_run_that_was_removed_meanwhile_is_made_again(
    repository: Path, butler: Butler, raws: Path, task: dict[str, str]
) -> None:
    plugin = make_plugin(repository, ingest=task)
    path = samples.write_hsc(raws / "a.fits")
    assert ingest(plugin, path)[path].ok
    butler.registry.refresh()
    butler.removeRuns(["HSC/raw/all"])
    assert path.exists()
    assert ingest(plugin, path)[path] == Outcome.success(str(path))
    assert set(plugin.contains([str(path)])) == {str(path)}


# Real headers and files


def _real_header(name: str) -> dict[str, Any]:
    class Loader(yaml.SafeLoader):
        """Reads the cards of a PropertyList as the sequence they are."""

    Loader.add_constructor(
        "lsst.daf.base.PropertyList",
        lambda loader, node: loader.construct_sequence(node, deep=True),
    )
    loaded = yaml.load((SHARED / "data" / "headers" / name).read_text(), Loader)
    cards = loaded if isinstance(loaded, dict) else {card[0]: card[2] for card in loaded}
    structure = (
        "SIMPLE XTENSION BITPIX NAXIS EXTEND PCOUNT GCOUNT TFIELDS TTYPE TFORM ZIMAGE ZTILE ZCMP "
        "ZNAME ZVAL ZTENSION ZBITPIX ZNAXIS ZPCOUNT ZGCOUNT BZERO BSCALE BLANK CHECKSUM DATASUM "
        "ZHECKSUM ZDATASUM INHERIT ZDITHER ZQUANT COMMENT HISTORY PV CONTINUE NEXTEND"
    )
    return {
        key: value
        for key, value in cards.items()
        if not key.startswith(tuple(structure.split())) and isinstance(value, str | int | float)
        if value == value  # NaN is no FITS value
    }


@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
@pytest.mark.parametrize(
    ("name", "data_id"),
    [
        ("fitsheader-decam.yaml", ("DECam", 229388, 25)),
        ("fitsheader-decam-0160496.yaml", ("DECam", 160496, 25)),
        ("fitsheader-decam-raw_dec050441_25.yaml", ("DECam", 177764, 25)),
        ("fitsheader-hsc.yaml", ("HSC", 904024, 50)),
        ("fitsheader-hsc-HSCA04090107.yaml", ("HSC", 40900, 37)),
    ],
)
def test_real_headers_are_ingested(
    repository: Path, butler: Butler, raws: Path, name: str, data_id: tuple[str, int, int]
) -> None:
    header = fits.Header()
    for key, value in _real_header(name).items():
        header.append((key, value))
    path = raws / "real.fits"
    if data_id[0] == "DECam":
        detector = fits.Header([(key, header.pop(key)) for key in ("CCDNUM", "DETPOS", "DETECTOR")])
        hdus: Any = fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(header=detector)])
    else:
        hdus = fits.PrimaryHDU(header=header)
    hdus.writeto(path, output_verify="silentfix")
    outcome = ingest(make_plugin(repository), path)[path]
    assert outcome == Outcome.success(str(path))
    butler.registry.refresh()
    (ref,) = butler.query_datasets("raw", collections="*", find_first=False)
    assert tuple(ref.dataId[key] for key in ("instrument", "exposure", "detector")) == data_id


def test_a_camera_nobody_translates_is_named(repository: Path) -> None:
    (path,) = (SHARED / "data" / "fits").glob("*.fits")
    outcome = ingest(make_plugin(repository), path)[path]
    assert (outcome.ok, outcome.transient) == (False, False)
    assert "no metadata translator understands the file's header" in outcome.message
    assert "INSTRUME=" in outcome.message
    assert "obs_lsst" in outcome.message


# A task like the stack's


def test_the_stacks_task_gets_every_argument(repository: Path, raws: Path, tmp_path: Path) -> None:
    overrides = tmp_path / "overrides.py"
    overrides.write_text("config.failFast = True\n")
    plugin = make_plugin(
        repository,
        butler={"root": str(repository), "collection": "night"},
        ingest={
            **FAKE_RAW,
            "config_file": str(overrides),
            "config": {"failFast": False},
            "file_filter": r"\.fits$",
            "group_files": False,
            "skip_existing_exposures": True,
            "update_exposure_records": True,
            "track_file_attrs": False,
            "transfer": "copy",
        },
    )
    (task,) = fake_stack.RawIngestTask.made
    assert task.config.failFast is False
    path = samples.write_hsc(raws / "a #1.fits")
    assert ingest(plugin, path)[path].ok
    assert fake_stack.RawIngestTask.calls == [
        {
            "files": [str(path)],
            "run": "night",
            "file_filter": r"\.fits$",
            "group_files": False,
            "skip_existing_exposures": True,
            "update_exposure_records": True,
            "track_file_attrs": False,
            "num_workers": 1,
            "transfer": "copy",
        }
    ]


def test_the_stacks_task_gets_direct_by_default_and_no_pool(
    repository: Path, raws: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    plugin = Gen3Ingest(
        {
            "butler": {"root": str(repository), "collection": None},
            "ingest": {**FAKE_RAW, "pool": "spawn", "processes": 8},
        }
    )
    assert "plugin.config.ingest.pool is ignored" in caplog.text
    assert "plugin.config.ingest.processes is ignored" in caplog.text
    path = samples.write_hsc(raws / "a.fits")
    assert ingest(plugin, path)[path].ok
    (call,) = fake_stack.RawIngestTask.calls
    assert (call["transfer"], call["run"], call["num_workers"]) == ("direct", None, 1)


def test_arguments_that_an_older_task_lacks_are_left_out(
    repository: Path, raws: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = make_plugin(
        repository, ingest={"task": f"{FAKE}.OlderRawIngestTask", "track_file_attrs": False}
    )
    assert "the task has no argument track_file_attrs; ignored" in caplog.text
    path = samples.write_hsc(raws / "a.fits")
    assert ingest(plugin, path)[path].ok


def test_a_good_batch_is_one_call(repository: Path, raws: Path) -> None:
    plugin = make_plugin(repository, ingest=FAKE_RAW)
    paths = [samples.write_hsc(raws / f"{n}.fits", detector=n) for n in range(4)]
    assert all(each.ok for each in ingest(plugin, *paths).values())
    assert [len(call["files"]) for call in fake_stack.RawIngestTask.calls] == [4]


def test_only_what_a_batch_leaves_open_is_tried_alone(repository: Path, raws: Path) -> None:
    plugin = make_plugin(repository, ingest=FAKE_RAW)
    already = samples.write_hsc(raws / "already.fits", detector=1)
    ingest(plugin, already)
    fake_stack.RawIngestTask.calls.clear()
    sibling = samples.write_hsc(raws / "sibling.fits", detector=2)
    other = samples.write_hsc(raws / "other.fits", exposure=40950)
    junk = samples.write_not_fits(raws / "junk.fits")
    outcomes = ingest(plugin, already, sibling, other, junk)
    assert [each.ok for each in outcomes.values()] == [True, True, True, False]
    alone = [call["files"] for call in fake_stack.RawIngestTask.calls[1:]]
    assert alone == [[str(already)], [str(sibling)]]


def test_metadata_conflicts_of_the_stacks_task_are_failures(repository: Path, raws: Path) -> None:
    plugin = make_plugin(repository, ingest=FAKE_RAW)
    first = samples.write_hsc(raws / "first.fits", detector=1)
    moon = samples.write_hsc(raws / "moon.fits", detector=2, target="Moon")
    assert ingest(plugin, first)[first].ok
    outcome = ingest(plugin, moon)[moon]
    assert not outcome.ok
    assert outcome.message.startswith("conflict: DatabaseConflictError")
    plugin = make_plugin(repository, ingest={**FAKE_RAW, "update_exposure_records": True})
    assert ingest(plugin, moon)[moon].ok


def test_a_database_that_is_busy_makes_the_batch_transient(repository: Path, raws: Path) -> None:
    plugin = make_plugin(repository, ingest=FAKE_RAW)
    fake_stack.RawIngestTask.broken = sqlalchemy.exc.OperationalError(
        "BEGIN", {}, RuntimeError("locked")
    )
    paths = [samples.write_hsc(raws / f"{n}.fits", detector=n) for n in range(3)]
    outcomes = ingest(plugin, *paths)
    assert [(each.ok, each.transient) for each in outcomes.values()] == [(False, True)] * 3
    assert len(fake_stack.RawIngestTask.calls) == 1


def test_trouble_with_a_disk_is_transient_for_its_file(repository: Path, raws: Path) -> None:
    plugin = make_plugin(repository, ingest=FAKE_RAW)
    fake_stack.RawIngestTask.broken = OSError(5, "Input/output error")
    path = samples.write_hsc(raws / "a.fits")
    outcome = ingest(plugin, path)[path]
    assert (outcome.ok, outcome.transient) == (False, True)
    assert outcome.message == "OSError: [Errno 5] Input/output error"


def test_a_task_that_says_nothing_is_a_failure(repository: Path, raws: Path) -> None:
    plugin = make_plugin(repository, ingest={"task": f"{FAKE}.SilentTask"})
    paths = [samples.write_hsc(raws / f"{n}.fits", detector=n) for n in range(2)]
    outcomes = ingest(plugin, *paths)
    assert {each.message for each in outcomes.values()} == {
        "the ingest task said nothing about this file"
    }


def test_a_task_that_says_nonsense_does_no_harm(
    repository: Path, raws: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = make_plugin(repository, ingest={"task": f"{FAKE}.BabblingTask"})
    path = samples.write_hsc(raws / "a.fits")
    assert ingest(plugin, path)[path].ok
    assert "reported a file it was not given" in caplog.text


# Visits


@pytest.mark.parametrize("task", [{}, FAKE_RAW], ids=["ours", "stack"])
def test_visits_are_defined_for_what_is_in_the_repository(
    repository: Path, raws: Path, tmp_path: Path, task: dict[str, str]
) -> None:
    overrides = tmp_path / "visits.py"
    overrides.write_text("config.groupExposures = 'one-to-one'\n")
    visits = {
        **FAKE_VISITS,
        "config_file": str(overrides),
        "collections": ["HSC/calib"],
        "update_records": True,
    }
    plugin = make_plugin(repository, ingest=task, visits=visits)
    (made,) = fake_stack.DefineVisitsTask.made
    assert made.config is not None
    assert made.config.groupExposures == "one-to-one"
    one = samples.write_hsc(raws / "1.fits", exposure=40890)
    two = samples.write_hsc(raws / "2.fits", exposure=40890, detector=38)
    three = samples.write_hsc(raws / "3.fits", exposure=40892)
    junk = samples.write_not_fits(raws / "junk.fits")
    ingest(plugin, one, two, three, junk)
    assert fake_stack.DefineVisitsTask.calls == [
        {
            "exposures": [40890, 40892],
            "collections": ["HSC/calib"],
            "update_records": True,
            "incremental": True,
        }
    ]


@pytest.mark.parametrize("task", [{}, FAKE_RAW], ids=["ours", "stack"])
def test_a_visit_that_fails_is_a_failure_of_its_own_and_can_be_repeated(
    repository: Path, raws: Path, task: dict[str, str]
) -> None:
    plugin = make_plugin(repository, ingest=task, visits=FAKE_VISITS)
    bad = samples.write_hsc(raws / "bad.fits", exposure=40890)
    good = samples.write_hsc(raws / "good.fits", exposure=40892)
    fake_stack.DefineVisitsTask.bad[40890] = ValueError("no camera geometry")
    outcomes = ingest(plugin, bad, good)
    assert outcomes[good].ok
    assert outcomes[bad] == Outcome.failure(
        str(bad),
        "step visits: the raw is in the repository, but its visit could not be defined "
        "(ValueError: no camera geometry); RERUN repeats this step only",
    )
    assert [call["exposures"] for call in fake_stack.DefineVisitsTask.calls] == [
        [40890, 40892],
        [40890],
        [40892],
    ]
    assert fake_stack.DefineVisitsTask.calls[0]["collections"] == ["HSC/raw/all"]
    # The raw alone is not enough to count as there.
    assert plugin.contains([str(bad), str(good)]) == {str(good)}

    fake_stack.DefineVisitsTask.bad.clear()
    assert ingest(plugin, bad)[bad] == Outcome.success(str(bad), "already ingested")
    assert plugin.contains([str(bad), str(good)]) == {str(bad), str(good)}


def test_a_visit_that_fails_alone_is_not_tried_twice(repository: Path, raws: Path) -> None:
    plugin = make_plugin(repository, visits=FAKE_VISITS)
    path = samples.write_hsc(raws / "a.fits")
    fake_stack.DefineVisitsTask.bad[40900] = OSError(28, "No space left on device")
    outcome = ingest(plugin, path)[path]
    assert (outcome.ok, outcome.transient) == (False, True)
    assert len(fake_stack.DefineVisitsTask.calls) == 1


def test_exposures_of_no_sky_need_no_visit(repository: Path, raws: Path) -> None:
    plugin = make_plugin(repository, visits=FAKE_VISITS)
    path = samples.write_hsc(raws / "bias.fits", extra={"DATA-TYP": "BIAS"})
    fake_stack.DefineVisitsTask.bad[40900] = ValueError("not a science exposure")
    ingest(plugin, path)
    assert plugin.contains([str(path)]) == {str(path)}


# The way the ingester loads it


def test_the_plugin_host_loads_it(repository: Path, raws: Path) -> None:
    from ingest.plugin_host import PluginHost

    config = Gen3Config.model_validate({"butler": {"root": str(repository)}}).normalised()
    host = PluginHost("ingest.plugins.gen3.Gen3Ingest", config)
    try:
        host.start()
        assert "ingest.butler" in host.version
        assert host.has_contains
        paths = [
            os.fspath(samples.write_hsc(raws / "a é.fits")),
            os.fspath(samples.write_not_fits(raws / "b.fits")),
        ]
        outcomes = {each.path: each for each in host.ingest(paths, timeout_s=60, tick=None)}
        assert [outcomes[path].ok for path in paths] == [True, False]
        assert host.contains(paths, timeout_s=60, tick=None) == {paths[0]}
    finally:
        host.close()
