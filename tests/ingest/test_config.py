from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from buffer.config import ConfigError, load
from ingest.config import IngesterFile, check_ingester
from ingest.statuses import CLAIMABLE, DEFAULT_WANTED, Status
from tests.yaml_files import problem, write

NULL = "ingester:\n  plugin:\n    name: NullIngest\n"


def ingester(tmp_path: Path, text: str) -> IngesterFile:
    return load(write(tmp_path, text), IngesterFile)


def plugin_config(tmp_path: Path, plugin: str, config: str) -> Any:
    text = f"ingester:\n  plugin:\n    name: {plugin}\n    config: {config}\n"
    return ingester(tmp_path, text).ingester.plugin.config


def test_defaults(tmp_path: Path) -> None:
    loaded = ingester(tmp_path, NULL)
    section = loaded.ingester
    assert loaded.name == "NullIngest"
    assert section.plugin.config == {}
    assert section.storage is None
    assert (section.include_list, section.exclude_list) == ([], [])
    assert section.file_status == list(DEFAULT_WANTED)
    assert (section.batch_size, section.num_threads, section.daemon) == (10, 1, True)
    assert (section.pause, section.timeout, section.retry) == (1, 600, None)


def test_an_ingester_is_named_after_its_event_table(tmp_path: Path) -> None:
    text = f"database: {{tablenames: {{event: {{table: gen2_file_events}}}}}}\n{NULL}"
    assert ingester(tmp_path, text).name == "gen2_file_events"
    assert ingester(tmp_path, NULL.replace("NullIngest", "site.plugins.Mine")).name == "Mine"


def test_the_storage_may_not_have_the_ingesters_name(tmp_path: Path) -> None:
    text = f"database: {{tablenames: {{file: {{table: nullingest}}}}}}\n{NULL}"
    assert "database.tablenames.file.table: is the name of the ingester too" in problem(
        tmp_path, text, IngesterFile
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("RERUN", [Status.RERUN]),
        ("[RERUN, UNTRIED, RERUN]", [Status.RERUN, Status.UNTRIED]),
        ("null", list(DEFAULT_WANTED)),
        (f"[{', '.join(CLAIMABLE)}]", list(CLAIMABLE)),
    ],
)
def test_file_status(tmp_path: Path, value: str, expected: list[Status]) -> None:
    assert ingester(tmp_path, f"{NULL}  file_status: {value}\n").ingester.file_status == expected


def test_retry(tmp_path: Path) -> None:
    retry = ingester(tmp_path, f"{NULL}  retry: {{}}\n").ingester.retry
    assert retry is not None
    assert (retry.max_attempts, retry.backoff, retry.max_backoff) == (5, 30, 3600)
    assert retry.statuses == [Status.FAILURE, Status.UNKNOWN]
    retry = ingester(tmp_path, f"{NULL}  retry: {{statuses: FAILURE}}\n").ingester.retry
    assert retry is not None
    assert retry.statuses == [Status.FAILURE]
    assert ingester(tmp_path, f"{NULL}  retry: null\n").ingester.retry is None


def test_alerts(tmp_path: Path) -> None:
    for line in ("", "  alerts:\n", "  alerts: {}\n"):
        alerts = ingester(tmp_path, f"{NULL}{line}").ingester.alerts
        assert (alerts.silence_hours, alerts.oldest_waiting_minutes) == (None, None)
        assert (alerts.failure_percent, alerts.failure_window_minutes) == (None, 60)
    line = "  alerts: {silence_hours: 12, oldest_waiting_minutes: 0.5, failure_percent: 100}\n"
    alerts = ingester(tmp_path, f"{NULL}{line}").ingester.alerts
    assert (alerts.silence_hours, alerts.oldest_waiting_minutes) == (12, 0.5)
    assert (alerts.failure_percent, alerts.failure_least) == (100, 10)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("  file_status: SUCCESS", "ingester.file_status[0]: SUCCESS is refused"),
        ("  file_status: [RERUN, PENDING]", "ingester.file_status[1]: PENDING is refused"),
        ("  file_status: rerun", 'IGNORED or BACKFILL, got "rerun"'),
        ("  file_status: []", "ingester.file_status: expected a status or a list of statuses"),
        ("  file_status: 5", "ingester.file_status: expected a status or a list of statuses"),
        ("  batch_size: 0", "ingester.batch_size: expected an integer of 1 or more, got 0"),
        ("  batch_size: ten", 'ingester.batch_size: expected an integer of 1 or more, got "ten"'),
        ("  batch_size: 99999", "ingester.batch_size: is too much: at most 10000"),
        ("  num_threads: null", "expected an integer of 1 or more, got null"),
        ("  daemon: 'no'", 'ingester.daemon: expected true or false, got "no"'),
        ("  timeout: 0", "ingester.timeout: expected a number of seconds, more than 0, got 0"),
        (
            "  alerts: {silence_hours: 0}",
            "ingester.alerts.silence_hours: expected a number of hours, more than 0, got 0",
        ),
        (
            "  alerts: {oldest_waiting_minutes: ten}",
            "ingester.alerts.oldest_waiting_minutes: expected a number of minutes, more than 0, got"
            ' "ten"',
        ),
        ("  alerts: {failure_percent: 101}", "expected a number of percent, more than 0, at most"),
        ("  alerts: {failure_window_minutes: 1441}", "is too much: at most 1440"),
        ("  alerts: {failure_percentage: 5}", 'unknown key: did you mean "failure_percent"?'),
        ("  alerts: 3", "ingester.alerts: expected a mapping (keys and values), got 3"),
        ("  retry: 3", "ingester.retry: expected a mapping (keys and values), got 3"),
        ("  retry: {backoff: 9, max_backoff: 8}", "retry.max_backoff: must not be less than"),
        ("  retry: {statuses: [IGNORED]}", "expected FAILURE or UNKNOWN, got"),
        ("  include_list: ['[']", "ingester.include_list[0]: not a regular expression"),
        ("  plugins: {}", 'ingester.plugins: unknown key: did you mean "plugin"?'),
    ],
)
def test_wrong_values(tmp_path: Path, line: str, expected: str) -> None:
    assert expected in problem(tmp_path, f"{NULL}{line}\n", IngesterFile)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Gen2Ingester", 'there is no plugin "Gen2Ingester": did you mean "Gen2Ingest"?'),
        ("foo", 'there is no plugin "foo" (known: NullIngest'),
        ("5", "ingester.plugin.name: expected NullIngest, Gen2Ingest, Gen3Ingest or the dotted"),
        ("a..b", "ingester.plugin.name: expected"),
        ("'os;rm'", "ingester.plugin.name: expected"),
    ],
)
def test_wrong_plugins(tmp_path: Path, name: str, expected: str) -> None:
    assert expected in problem(tmp_path, NULL.replace("NullIngest", name), IngesterFile)


# Settings of plugins


def test_null_ingest_ignores_its_settings(tmp_path: Path) -> None:
    for config in ("null", "5", "[a]", "{root: 5, x: y}"):
        assert plugin_config(tmp_path, "NullIngest", config) == {}


def test_a_third_party_plugin_gets_its_settings_as_they_are(tmp_path: Path) -> None:
    config = plugin_config(tmp_path, "site.Mine", "{a: [1, 2.5, null], when: 2020-12-31}")
    assert config == {"a": [1, 2.5, None], "when": "2020-12-31"}
    assert plugin_config(tmp_path, "site.Mine", "null") == {}
    text = "ingester: {plugin: {name: site.Mine, config: [1]}}"
    assert "plugin.config: expected a mapping (keys and values), or null, got a list" in problem(
        tmp_path, text, IngesterFile
    )


@pytest.mark.parametrize(
    "config", ["{root: /repo}", "{butler: {root: /repo}}", "{root: /repo, butler: {root: /repo}}"]
)
def test_gen2_defaults(tmp_path: Path, config: str) -> None:
    assert plugin_config(tmp_path, "Gen2Ingest", config) == {
        "butler": {"root": "/repo"},
        "ingest": {
            "create": False,
            "dryrun": False,
            "ignoreIngested": False,
            "mode": "link",
            "task": "lsst.pipe.tasks.ingest.IngestTask",
        },
    }


@pytest.mark.parametrize("name", ["Gen3Ingest", "ingest.plugins.gen3.Gen3Ingest"])
def test_gen3_defaults(tmp_path: Path, name: str) -> None:
    config = "{root: /repo, ingest: {pool: null, processes: 1}, visits: null}"
    assert plugin_config(tmp_path, name, config) == {
        "butler": {"root": "/repo", "collection": None},
        "ingest": {
            "config": None,
            "config_file": None,
            "file_filter": r"\.fit[s]?\b",
            "group_files": True,
            "skip_existing_exposures": False,
            "update_exposure_records": False,
            "track_file_attrs": True,
            "task": "lsst.obs.base.RawIngestTask",
            "transfer": "direct",
        },
        "visits": None,
    }


def test_gen3_visits_and_ignored_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = plugin_config(
        tmp_path,
        "Gen3Ingest",
        "{root: /repo, ingest: {processes: 4, config: {failFast: true}}, "
        "visits: {instrument: HSC, collections: raw/all, config_file: /c.py, processes: 1}}",
    )
    assert config["ingest"]["config"] == {"failFast": True}
    assert config["visits"] == {
        "instrument": "HSC",
        "config_file": "/c.py",
        "collections": ["raw/all"],
        "update_records": False,
        "task": "lsst.obs.base.DefineVisitsTask",
    }
    assert caplog.messages == [
        "ingester.plugin.config.ingest.processes is ignored: set ingester.num_threads instead"
    ]


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("s3://bucket/repo", "s3://bucket/repo"),
        ("main", "main"),
        ("sub/repo", "{here}/sub/repo"),
        ("there", "{here}/there"),
    ],
)
def test_local_roots_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    config = plugin_config(tmp_path, "Gen3Ingest", f"{{root: '{root}'}}")
    assert config["butler"]["root"] == expected.format(here=tmp_path)


@pytest.mark.parametrize(
    ("plugin", "config", "expected"),
    [
        ("Gen3Ingest", "null", "ingester.plugin.config.butler: is required"),
        ("Gen3Ingest", "{butler: {}}", "ingester.plugin.config.butler.root: is required"),
        ("Gen2Ingest", "{}", "ingester.plugin.config.butler: is required"),
        ("Gen2Ingest", "[]", "ingester.plugin.config: expected a mapping"),
        ("Gen2Ingest", "{root: 5}", "config.butler.root: expected the path or address of"),
        ("Gen2Ingest", "{root: ~/x}", "config.butler.root: ~ is not expanded"),
        ("Gen2Ingest", "{root: /a, butler: {root: /b}}", "config.root: differs from butler.root"),
        ("Gen2Ingest", "{root: /a, butler: 5}", "plugin.config.butler: expected a mapping"),
        (
            "Gen3Ingest",
            "{rot: /x, root: /x}",
            'plugin.config.rot: unknown key: did you mean "root"',
        ),
        (
            "Gen3Ingest",
            "{root: /a, ingest: {transfer: move}}",
            "ingester.plugin.config.ingest.transfer: move would take the file out of our storage, "
            "where it must stay: use direct",
        ),
        (
            "Gen2Ingest",
            "{root: /a, ingest: {mode: move}}",
            "ingester.plugin.config.ingest.mode: move would take the file out of our storage, "
            "where it must stay: use link",
        ),
        ("Gen2Ingest", "{root: /a, ingest: {mode: x}}", 'expected link, copy or skip, got "x"'),
        ("Gen3Ingest", "{root: /a, ingest: {transfer: x}}", "link or auto, got"),
        ("Gen3Ingest", "{root: /a, ingest: {task: x}}", "expected the dotted name of a task's"),
        ("Gen3Ingest", "{root: /a, ingest: {file_filter: '('}}", "not a regular expression"),
        ("Gen3Ingest", "{root: /a, ingest: {dryrun: true}}", "config.ingest.dryrun: unknown key"),
        ("Gen3Ingest", "{root: /a, visits: {}}", "config.visits.instrument: is required"),
        (
            "Gen3Ingest",
            "{root: /a, transfer: copy}",
            'mean "ingester.plugin.config.ingest.transfer"?',
        ),
    ],
)
def test_wrong_settings_of_plugins(tmp_path: Path, plugin: str, config: str, expected: str) -> None:
    text = f"ingester: {{plugin: {{name: {plugin}, config: {config}}}}}"
    assert expected in problem(tmp_path, text, IngesterFile)


def test_secrets_of_plugins_are_not_shown(tmp_path: Path) -> None:
    config = "{root: /a, butler: {collection: {x: y}}, ingest: {config: 'password=hunter2'}}"
    text = f"ingester: {{plugin: {{name: Gen3Ingest, config: {config}}}}}"
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), IngesterFile)
    assert len(caught.value.problems) == 2
    assert "hunter2" not in str(caught.value)


# Against the file system


def test_checks_of_an_ingester(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    text = f"ingester: {{plugin: {{name: Gen3Ingest, config: {{root: {tmp_path}/repo}}}}}}"
    [line] = check_ingester(ingester(tmp_path, text), [])
    assert "butler.root" in line
    assert "is not a Butler repository" in line
    (tmp_path / "repo" / "butler.yaml").touch()
    assert check_ingester(ingester(tmp_path, text), []) == []
    [line] = check_ingester(ingester(tmp_path, text.replace("/repo", "/gone")), [])
    assert "there is no" in line
    made = text.replace("Gen3", "Gen2").replace("/repo", "/gone, ingest: {create: true}")
    assert check_ingester(ingester(tmp_path, made), []) == []
    far = text.replace(f"{tmp_path}/repo", "s3://bucket/repo")
    assert check_ingester(ingester(tmp_path, far), []) == []
    storage = f"{text[:-1]}, storage: {tmp_path}/repo}}"
    [line] = check_ingester(ingester(tmp_path, storage), [])
    assert "is the storage area" in line
    [line] = check_ingester(ingester(tmp_path, f"{NULL}  storage: {tmp_path}/gone\n"), [])
    assert line.startswith("ingester.storage: there is no directory")


def test_a_third_party_plugin_has_to_be_allowed(tmp_path: Path) -> None:
    loaded = ingester(tmp_path, NULL.replace("NullIngest", "site.Mine"))
    assert check_ingester(loaded, ["site.Mine"]) == []
    [line] = check_ingester(loaded, ["site.Other"])
    assert line.startswith("ingester.plugin.name: ")
    assert "INGEST_PLUGINS" in line
