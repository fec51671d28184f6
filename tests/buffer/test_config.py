from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer import config, config_errors, values
from buffer.config import ConfigError, load, place
from buffer.finder_config import (
    AlternativeAction,
    Checksum,
    FinderFile,
    SearchMethod,
    StandardAction,
)
from buffer.finder_paths import check_paths
from buffer.problems import Problem
from buffer.sections import Database

TOP = Path(__file__).resolve().parent.parent.parent
MINIMAL = "finder:\n  source: /a\n  storage: /b\n  search:\n    method: scan\n"


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "finder.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, FinderFile)
    return [line.removeprefix(f"{path}:") for line in caught.value.problems]


def test_defaults(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, MINIMAL), FinderFile)
    finder = loaded.finder
    assert finder.source == Path("/a")
    assert finder.actions.standard is StandardAction.NOOP
    assert finder.actions.alternative is AlternativeAction.NOOP
    assert finder.duplicates is None
    assert finder.search.method is SearchMethod.SCAN
    assert finder.search.exclude_list == []
    assert finder.search.delay == finder.search.delay_s == 2
    assert finder.search.date is None
    assert (finder.search.past_days, finder.search.future_days) == (1, 1)
    assert (finder.pause, finder.fsync, finder.checksum) == (1, True, Checksum.BLAKE3)
    assert loaded.database.engine is None
    assert loaded.database.file_table == "files"
    assert loaded.database.event_table is None
    assert loaded.database.schemas == []
    assert (loaded.logging.file, loaded.logging.level.value) == (None, "INFO")


def test_logs_wait_longer(tmp_path: Path) -> None:
    text = MINIMAL.replace("scan", "parse_rsync_logs")
    assert load(write(tmp_path, text), FinderFile).finder.search.delay == 60
    assert load(write(tmp_path, f"{text}    delay: 0\n"), FinderFile).finder.search.delay == 0


@pytest.mark.parametrize("text", ["2020-12-31", '"2020-12-31"'])
def test_a_date_needs_no_quotes(tmp_path: Path, text: str) -> None:
    loaded = load(write(tmp_path, f"{MINIMAL}    date: {text}\n"), FinderFile)
    assert str(loaded.finder.search.date) == "2020-12-31"


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load(write(tmp_path, MINIMAL.replace("/a", "buffer/../in")), FinderFile)
    assert loaded.finder.source == tmp_path / "in"


@pytest.mark.parametrize("section", ["database:", "database: null", "logging:", "logging: {}"])
def test_empty_sections_mean_their_defaults(tmp_path: Path, section: str) -> None:
    assert load(write(tmp_path, f"{section}\n{MINIMAL}"), FinderFile).database == Database()


def test_every_error_in_one_run_with_key_and_line(tmp_path: Path) -> None:
    text = (
        "database:\n"
        "  tablenames: {file: {table: 5}, event: {table: 'a b'}}\n"
        "  echo: maybe\n"
        "finder:\n"
        "  source: 5\n"
        "  search:\n"
        "    method: scan\n"
        "    past_days: one\n"
        "    exclude_list: ['(', a, 5]\n"
        "  pause: -1\n"
        "  pause: 2\n"
    )
    assert problems(tmp_path, text) == [
        "2: database.tablenames.event.table: expected a name of letters, digits and _ (at most 63, "
        'no digit first), got "a b"',
        "2: database.tablenames.file.table: expected a name of letters, digits and _ (at most 63, "
        "no digit first), got 5",
        '3: database.echo: expected true or false, got "maybe"',
        "4: finder.storage: is required: Root of the storage area.",
        "5: finder.source: expected a path, got 5",
        '8: finder.search.past_days: expected an integer of 0 or more, got "one"',
        "9: finder.search.exclude_list[0]: not a regular expression: missing ) at position 1",
        "9: finder.search.exclude_list[2]: expected a regular expression, got 5",
        "10: finder.pause: expected a number of seconds, 0 or more, got -1",
        "11: finder.pause: is there twice (first in line 10): remove one",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("  past_day: 1", "finder.past_day: unknown key: the nearest known key is"),
        ("  past_days: 1", 'unknown key here: did you mean "finder.search.past_days"?'),
        ("  puase: 1", 'finder.puase: unknown key: did you mean "pause"?'),
        ("databse: {}", 'databse: unknown key: did you mean "database"?'),
        ("ingester: {}", "ingester: unknown key here: this is the file of another component"),
        ("xyz: 1", "known here: database, logging, finder"),
    ],
)
def test_unknown_keys_name_the_nearest(tmp_path: Path, line: str, expected: str) -> None:
    [problem] = problems(tmp_path, f"{MINIMAL}{line}\n")
    assert expected in problem


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("  actions: {standard: Delete}", "Delete would lose every new file"),
        ("  actions: {standard: move}", 'expected Move, Noop or null, got "move"'),
        ("  actions: {alternative: [Move]}", "expected Delete, Move, Noop or null, got a list"),
        ("  actions: {alternative: Move}", "finder.duplicates: is required with"),
        ("  actions: 5", "finder.actions: expected a mapping (keys and values), got 5"),
        (
            "  alerts: {silence_hours: -1}",
            "finder.alerts.silence_hours: expected a number of hours, more than 0, got -1",
        ),
        (
            "  alerts: {silense_hours: 1}",
            'finder.alerts.silense_hours: unknown key: did you mean "silence_hours"?',
        ),
        ("  pause: 1.0e+300", "finder.pause: is too much: at most 31622400"),
        ("  pause: true", "finder.pause: expected a number of seconds, 0 or more, got true"),
        ("  pause: '1'", 'finder.pause: expected a number of seconds, 0 or more, got "1"'),
        ("  fsync: 1", "finder.fsync: expected true or false, got 1"),
        ("  checksum: sha1", "expected blake3, blake2b, sha256 or md5"),
        ("  duplicates: ~/x", "~ is not expanded"),
        ("  duplicates: ''", 'finder.duplicates: expected a path, got ""'),
        ("    method: look", "is there twice"),
        ("    exclude_list: x", 'expected a list of regular expressions, or null, got "x"'),
        ("    exclude_list: ['']", "exclude_list[0]: an empty regular expression matches every"),
        ("    past_days: 1.0", "expected an integer of 0 or more, got 1.0"),
        ("    past_days: 40000", "is too much: at most 36500"),
        ("    date: 20201231", "expected a date like 2020-12-31, got 20201231"),
        ("    date: 2020-02-30", 'expected a date like 2020-12-31, got "2020-02-30"'),
        ("    date: 0001-01-01", "past_days: reaches beyond the calendar"),
        ("    date: 9999-12-31", "future_days: reaches beyond the calendar"),
        ("logging: {rotate: SIZE}", "logging.rotate: only a file can be rotated"),
        ("logging: {level: 10}", "expected DEBUG, INFO, WARNING, ERROR or CRITICAL, got 10"),
        ("logging: {format: '%(nothing)s'}", "logging.format: expected a format"),
        ("logging: {format: 'no field'}", "logging.format: expected a format"),
        ("logging: {when: W7}", "logging.when: expected S, M, H, D, MIDNIGHT or W0"),
        ("logging: {interval: 0}", "logging.interval: expected an integer of 1 or more, got 0"),
        ("logging: []", "logging: expected a mapping (keys and values), got an empty list"),
        ("database: {pool_class: ''}", "database.pool_class: expected a name"),
        ("database: {engine: 5}", "database.engine: expected a database URL, got"),
        ("database: {engine: 'mysql://h/d'}", "databases of the kind 'mysql' are not supported"),
        ("database: {engine: 'sqlite://'}", "a database in memory cannot be shared"),
    ],
)
def test_wrong_values(tmp_path: Path, line: str, expected: str) -> None:
    [problem] = problems(tmp_path, f"{MINIMAL}{line}\n")
    assert expected in problem


def test_moving_what_a_log_names_is_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace("scan", "parse_rsync_logs") + "  actions: {standard: Move}\n"
    assert "Move cannot be used with search.method parse_rsync_logs" in problems(tmp_path, text)[0]


@pytest.mark.parametrize(
    ("tablenames", "file", "event", "schemas"),
    [
        ("{}", "files", None, []),
        ("null", "files", None, []),
        ("{file: null, event: null}", "files", None, []),
        ("{file: {table: null, schema: null}}", "files", None, []),
        ("{file: {table: a, schema: s}, event: {table: b, schema: s}}", "a", "b", ["s"]),
        ("{file: {schema: s}, event: {table: b, schema: t}}", "files", "b", ["s", "t"]),
        ("{schema: dbbbm, table: a}", "a", None, ["dbbbm"]),
        ("{schema: s, table: a, file: {table: a}, event: {table: b}}", "a", "b", ["s"]),
    ],
)
def test_table_names(
    tmp_path: Path, tablenames: str, file: str, event: str | None, schemas: list[str]
) -> None:
    loaded = load(write(tmp_path, f"database: {{tablenames: {tablenames}}}\n{MINIMAL}"), FinderFile)
    section = loaded.database
    assert (section.file_table, section.event_table, section.schemas) == (file, event, schemas)
    assert section.schema_name == (schemas[0] if schemas else None)


@pytest.mark.parametrize(
    ("tablenames", "expected"),
    [
        ("{table: a, file: {table: b}}", "tablenames.table: differs from tablenames.file.table"),
        ("{schema: a, file: {schema: b}}", "tablenames.schema: differs from tablenames.file.sch"),
        ("{file: {table: a}, event: {table: A}}", "event.table: is the name of the file table too"),
        ("{file: {table: 'x; DROP TABLE y'}}", "file.table: expected a name of letters"),
        ("{file: {table: 'a\\n'}}", "file.table: expected a name of letters"),
        ("{file: {table: 1a}}", "file.table: expected a name of letters"),
        (f"{{file: {{table: {'a' * 64}}}}}", "file.table: expected a name of letters"),
        ("{file: {table: buffer_file}}", "file.table: is a table of this program itself"),
        ("{event: {table: Django_Migrations}}", "event.table: is a table of this program itself"),
        ("{event: {table: sqlite_x}}", "event.table: names that begin with sqlite_"),
        ("{file: files}", 'tablenames.file: expected a mapping (keys and values), got "files"'),
    ],
)
def test_wrong_table_names(tmp_path: Path, tablenames: str, expected: str) -> None:
    text = f"database: {{tablenames: {tablenames}}}\n{MINIMAL}".replace("'a\\n'", '"a\\n"')
    [problem] = problems(tmp_path, text)
    assert expected in problem


@pytest.mark.parametrize(
    "text",
    [
        "database: {engine: 'postgres://tester:hunter2@@h/d'}",
        "database: {engine: ['postgres://tester:hunter2@h/d']}",
        "database: {engine: 'postgres://tester:hunter2@h:port/d'}",
        "database: {engine: 'postgres://tester:hunter2'}",
        "database: {engine: 'tester:hunter2@h'}",
        "database: 'postgres://tester:hunter2@h/d'",
        "database: 'postgres://tester:pass word hunter2@h/d'",
        "database: {echo: 'postgres://tester:hunter2@h/d'}",
        "database: {password: hunter2}",
        "'postgres://tester:hunter2@h/d': 1",
        "postgres://tester:hunter2@h/d: {a: 1}",
        # A slip that leaves only a piece of the URL, as a key or a value of another key.
        "://tester:hunter2@database: {a: 1}",
        "database: {'/tester:hunter2@h/d': 1}",
        "tester:hunter2@h/d: {a: 1}",
        "hunter2@h/d: {a: 1}",
        "database: {echo: ':/tester:hunter2@h/d'}",
        f"database: {{echo: ':/tester:hunter2{'x' * 80}@h/d'}}",
        "database: !tester:hunter2@h {}",
        "database: !<tester:hunter2@h> {}",
    ],
)
def test_secrets_are_never_shown(tmp_path: Path, text: str) -> None:
    assert "hunter2" not in "".join(problems(tmp_path, f"{text}\n{MINIMAL}"))
    loaded = load(
        write(tmp_path, f"database: {{engine: 'postgres://t:hunter2@h/d'}}\n{MINIMAL}"), FinderFile
    )
    assert "hunter2" not in f"{loaded!r} {loaded} {loaded.model_dump()} {loaded.database!r}"


def test_problems_hide_what_looks_like_a_login_wherever_it_came_from() -> None:
    text = "/gone/ostgres:/tester:hunter2@h/d does not exist"
    path = "/home/someone@site.org/finder.yaml"
    shown = f"{path}:3: finder.source: /gone/ostgres:***@h/d does not exist"
    assert Problem(3, "finder.source", text).show(path) == shown
    assert ConfigError(f"{path}:3: finder.source: {text}").problems == [shown]


def test_shown_values_are_one_line(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, MINIMAL + '  checksum: "a\\nb\\e[31m' + "x" * 500 + '"\n')
    assert problem.isprintable()
    assert len(problem) < 200


@pytest.mark.parametrize("text", ["", "- a", "x", "finder: null", "finder: []", "database: {}"])
def test_files_that_are_no_finder(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["source", "storage", "actions", "search", "duplicates", "pause", "fsync", "checksum", "x"]
)


@given(finder=st.dictionaries(KEYS, JUNK) | JUNK, database=JUNK, logging=JUNK)
def test_any_content_ends_in_a_model_or_clear_errors(
    finder: Any, database: Any, logging: Any
) -> None:
    document = config.Document("f", {"finder": finder, "database": database, "logging": logging})
    try:
        config.validate(document, FinderFile)
    except ConfigError as error:
        assert all(line.isprintable() and "Input should" not in line for line in error.problems)


# Paths


def tree(tmp_path: Path, **changes: Any) -> FinderFile:
    for name in ("in", "store", "dup"):
        (tmp_path / name).mkdir(exist_ok=True)
    text = (
        f"finder:\n  source: {tmp_path}/{changes.get('source', 'in')}\n"
        f"  storage: {tmp_path}/{changes.get('storage', 'store')}\n"
        f"  duplicates: {tmp_path}/{changes.get('duplicates', 'dup')}\n"
        f"  actions: {{standard: {changes.get('standard', 'Move')}}}\n"
        f"  search: {{method: {changes.get('method', 'scan')}}}\n"
    )
    return load(write(tmp_path, text), FinderFile)


def test_good_paths(tmp_path: Path) -> None:
    assert check_paths(tree(tmp_path)) == []
    in_place = tree(tmp_path, standard="Noop", source="store", storage="in/../store")
    assert check_paths(in_place) == []
    assert check_paths(tree(tmp_path, standard="Noop", method="parse_rsync_logs")) == []


def test_wrong_paths(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "store" / "sub").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "store" / "sub")
    for changes, expected in [
        ({"source": "gone"}, "finder.source: there is no directory"),
        ({"source": "file"}, "is not a directory"),
        ({"source": "file/x"}, "cannot be used: Not a directory"),
        ({"source": "store/sub"}, "finder.source: .* is inside finder.storage"),
        ({"source": "link"}, "finder.source: .* is inside finder.storage"),
        ({"storage": "in/sub"}, "finder.storage: .* is inside finder.source"),
        ({"source": "store"}, "finder.actions.standard: Move needs a source that is not"),
        ({"standard": "Noop"}, "finder.actions.standard: Noop with search.method scan"),
        ({"duplicates": "store/sub"}, "finder.duplicates: .* finder.storage .* inside"),
        ({"duplicates": "in"}, "finder.duplicates: .* finder.source .* inside"),
    ]:
        found = check_paths(tree(tmp_path, **changes))
        assert len(found) == 1
        assert re.search(expected, found[0]), found


def test_a_storage_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tree(tmp_path)
    (tmp_path / "store").chmod(0o500)
    if os.geteuid() == 0:
        # Root may write anywhere, so here the system's answer has to be given for it.
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert "cannot be written to" in check_paths(loaded)[0]


def test_problems_get_their_lines(tmp_path: Path) -> None:
    loaded = tree(tmp_path)
    assert place(loaded, ["finder.storage: is odd", "database x: is gone"]) == [
        f"{tmp_path}/finder.yaml:3: finder.storage: is odd",
        f"{tmp_path}/finder.yaml: database x: is gone",
    ]


# What ships with the project


def test_the_sample_finder() -> None:
    loaded = load(TOP / "fixtures" / "finder.yaml", FinderFile)
    assert loaded.finder.actions.standard is StandardAction.MOVE
    assert loaded.finder.search.exclude_list


def test_the_finder_of_the_older_manual() -> None:
    loaded = load(TOP / "tests" / "quickstart" / "finder.yaml", FinderFile)
    assert loaded.finder.actions.alternative is AlternativeAction.DELETE
    assert loaded.database.engine is not None


def test_modules_of_buffer_do_not_import_ingest() -> None:
    for module in (config, config_errors, values):
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in names if name.startswith("ingest")]
