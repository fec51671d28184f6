"""Gen2Ingest against a task with the interface, and the traps, of the legacy one."""

from __future__ import annotations

import errno
import fcntl
import glob
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psycopg2
import pytest

from ingest.attempt import attempt
from ingest.plugin_host import PluginHost
from ingest.plugins.base import Outcome, PluginConfigError
from ingest.plugins.gen2 import CREATED_NAME, LOCK_NAME, Gen2Ingest
from ingest.plugins.legacy_task import import_task
from ingest.verdicts import VerdictKind

log = logging.getLogger("lsst.ingest")

__version__ = "24.1"


class IngestError(RuntimeError):
    """As the legacy task raises it."""

    def __init__(self, message: str, pathname: str, position: int) -> None:
        super().__init__(message)
        self.pathname = pathname
        self.position = position


class Parse:
    """Reads a file's data ID, here from its first line."""

    def getInfo(self, path: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        visit = Path(path).read_text().partition("\n")[0]
        if not visit.isdigit():
            raise ValueError(f"{path} is not FITS")
        info = {"visit": int(visit)}
        return info, [info]

    def getDestination(self, butler: Any, info: dict[str, Any], path: str) -> str:
        return os.path.join(butler, "raw", f"{info['visit']}.fits")


class LegacyTask:
    """Behaves as lsst.pipe.tasks.ingest.IngestTask, traps included, and checks its calls."""

    prepared: ClassVar[list[dict[str, Any]]] = []
    ingested: ClassVar[list[Any]] = []
    clobber = False

    @classmethod
    def prepareTask(
        cls,
        root: str | None = None,
        dryrun: bool = False,
        mode: str = "move",
        create: bool = False,
        ignoreIngested: bool = False,
    ) -> LegacyTask:
        assert isinstance(root, str)
        assert isinstance(dryrun, bool)
        assert isinstance(create, bool)
        assert isinstance(ignoreIngested, bool)
        assert mode in ("link", "copy", "skip")
        sys.argv = ["IngestTask", root, "--mode", mode, "__fakefile__"]  # a trap
        if not os.path.exists(os.path.join(root, "_mapper")):
            print("usage: ...\nIngestTask: error: no mapper found", file=sys.stderr)
            sys.exit(2)  # as its argument parser does
        task = cls()
        task._args = type("Args", (), {})()
        task._args.butler = root
        task._args.root = root
        task._args.dryrun = dryrun
        task._args.mode = mode
        task._args.create = create
        task._args.ignoreIngested = ignoreIngested
        cls.prepared.append(
            {
                "root": root,
                "dryrun": dryrun,
                "mode": mode,
                "create": create,
                "ignoreIngested": ignoreIngested,
            }
        )
        return task

    def __init__(self) -> None:
        self.parse = Parse()
        self._args: Any = None

    def ingestFiles(self, fileList: str | list[str]) -> None:
        self.ingested.append(fileList)
        names = [fileList] if isinstance(fileList, str) else fileList
        files = []
        for pattern in names:
            found = glob.glob(pattern)  # a trap
            if not found:
                log.warning("%s doesn't match any file", pattern)  # and another one: no error
            files += found
        args = self._args
        registry = os.path.join(args.root, "registry.sqlite3")
        if args.dryrun:
            return
        update = registry + ".new"
        for name in (update, *((registry,) if args.create else ())):
            if os.path.exists(name):
                os.unlink(name)  # a trap: `create` drops what was there, on each call
        if os.path.exists(registry):
            Path(update).write_bytes(Path(registry).read_bytes())
        with sqlite3.connect(update) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS raw (visit INTEGER UNIQUE)")
            for position, infile in enumerate(files):
                try:
                    infos = self.runFile(infile, connection, args)
                except Exception as error:
                    message = f"Failed to ingest file {infile}"
                    raise IngestError(message, infile, position) from error
                for info in infos or []:
                    connection.execute("INSERT OR IGNORE INTO raw VALUES (?)", (info["visit"],))
        connection.close()
        os.rename(update, registry)

    def runFile(self, infile: str, registry: Any, args: Any) -> list[dict[str, Any]] | None:
        if "bad" in os.path.basename(infile):
            log.info("Skipping declared bad file %s", infile)
            return None
        info, infos = self.parse.getInfo(infile)
        query = "SELECT COUNT(*) FROM raw WHERE visit = ?"
        if registry.execute(query, (info["visit"],)).fetchone()[0]:
            if args.ignoreIngested:
                return None
            log.warning("%s: already ingested: %s", infile, info)
        outfile = self.parse.getDestination(args.butler, info, infile)
        if args.mode == "skip":
            return infos
        os.makedirs(os.path.dirname(outfile), exist_ok=True)
        if os.path.lexists(outfile):
            if not self.clobber:
                raise RuntimeError(f"File {outfile} already exists; consider clobber=True")
            os.unlink(outfile)
        if args.mode == "link":
            os.symlink(os.path.abspath(infile), outfile)
        else:
            Path(outfile).write_bytes(Path(infile).read_bytes())
        return infos


class BareTask:
    """Only what the interface promises, and raises what it is told to."""

    error: ClassVar[Exception | None] = None
    calls: ClassVar[list[Any]] = []

    @classmethod
    def prepareTask(cls, **kwargs: Any) -> BareTask:
        assert sorted(kwargs) == ["create", "dryrun", "ignoreIngested", "mode", "root"]
        return cls()

    def ingestFiles(self, names: Any) -> None:
        self.calls.append(names)
        if self.error is not None:
            raise IngestError("Failed", "?", 0) from self.error


class ClobberingTask(LegacyTask):
    clobber = True


class WarningTask(BareTask):
    def ingestFiles(self, names: Any) -> None:
        log.warning("%s: already ingested: {}", names)
        raise IngestError("Failed", "?", 0)


class VanishingTask(LegacyTask):
    def ingestFiles(self, fileList: Any) -> None:
        os.unlink(glob.glob(fileList[0])[0])
        super().ingestFiles(fileList)


class ExitingTask(LegacyTask):
    @classmethod
    def prepareTask(cls, **kwargs: Any) -> Any:
        sys.exit(1)


not_a_task = object()


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    LegacyTask.prepared.clear()
    LegacyTask.ingested.clear()
    BareTask.calls.clear()
    argv = sys.argv
    yield
    BareTask.error = None
    assert sys.argv is argv


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "gen2repo"
    path.mkdir()
    (path / "_mapper").write_text("some.Mapper\n")
    return path


def config(root: Path, task: str = "LegacyTask", **settings: Any) -> dict[str, Any]:
    ingest = {
        "create": False,
        "dryrun": False,
        "ignoreIngested": False,
        "mode": "link",
        "task": task if "." in task else f"{__name__}.{task}",
    }
    return {"butler": {"root": str(root)}, "ingest": {**ingest, **settings}}


def make_raw(tmp_path: Path, visit: int, name: str = "") -> str:
    folder = tmp_path / "storage"
    folder.mkdir(exist_ok=True)
    path = folder / (name or f"{visit}.fits")
    path.write_text(f"{visit}\npixels\n")
    return str(path)


def visits(root: Path) -> list[int]:
    with sqlite3.connect(root / "registry.sqlite3") as connection:
        rows = connection.execute("SELECT visit FROM raw ORDER BY visit").fetchall()
    connection.close()
    return [visit for (visit,) in rows]


def test_files_are_ingested_one_per_call(root: Path, tmp_path: Path) -> None:
    plugin = Gen2Ingest(config(root))
    paths = [make_raw(tmp_path, n) for n in (1, 2, 3)]

    outcomes = list(plugin.ingest(paths))

    assert outcomes == [Outcome.success(path) for path in paths]
    assert LegacyTask.ingested == [[path] for path in paths]
    assert visits(root) == [1, 2, 3]
    assert os.path.samefile(root / "raw" / "2.fits", paths[1])
    assert plugin.in_order
    assert plugin.version() == "24.1"


@pytest.mark.parametrize("mode", ["link", "copy", "skip"])
@pytest.mark.parametrize("flag", [True, False])
def test_every_argument_reaches_the_task(root: Path, mode: str, flag: bool) -> None:
    Gen2Ingest(config(root, mode=mode, dryrun=flag, ignoreIngested=not flag))

    assert LegacyTask.prepared == [
        {
            "root": str(root),
            "dryrun": flag,
            "mode": mode,
            "create": False,
            "ignoreIngested": not flag,
        }
    ]


def test_outcomes_are_yielded_before_the_next_file_is_begun(root: Path, tmp_path: Path) -> None:
    outcomes = Gen2Ingest(config(root)).ingest([make_raw(tmp_path, n) for n in (1, 2)])
    next(outcomes)
    assert len(LegacyTask.ingested) == 1


def test_a_missing_file_is_a_failure(root: Path, tmp_path: Path) -> None:
    """The task itself would take it for success."""
    path = str(tmp_path / "missing.fits")
    (outcome,) = Gen2Ingest(config(root)).ingest([path])
    assert outcome == Outcome.failure(path, "the file does not exist")
    assert LegacyTask.ingested == []


def test_what_is_no_file_is_a_failure(root: Path, tmp_path: Path) -> None:
    file = make_raw(tmp_path, 1)
    outcomes = list(Gen2Ingest(config(root)).ingest([str(tmp_path), f"{file}/below", "/nul\0byte"]))
    assert [o.ok for o in outcomes] == [False] * 3
    assert outcomes[0].message == "not a regular file"
    assert "NotADirectoryError" in outcomes[1].message
    assert "not a file name" in outcomes[2].message


def test_a_file_that_vanishes_is_a_transient_failure(root: Path, tmp_path: Path) -> None:
    (outcome,) = Gen2Ingest(config(root, "VanishingTask")).ingest([make_raw(tmp_path, 1)])
    assert not outcome.ok
    assert outcome.transient
    assert "vanished" in outcome.message


def test_wildcards_in_names_are_ordinary_characters(root: Path, tmp_path: Path) -> None:
    for n, name in enumerate(["a1.fits", "ab.fits", "a[1].fits"]):
        make_raw(tmp_path, 10 + n, name)
    paths = [
        make_raw(tmp_path, 1, "a*.fits"),
        make_raw(tmp_path, 2, "a?.fits"),
        make_raw(tmp_path, 3, "a[1b].fits"),
    ]

    outcomes = list(Gen2Ingest(config(root)).ingest(paths))

    assert [o.ok for o in outcomes] == [True] * 3
    assert visits(root) == [1, 2, 3]


def test_create_is_used_once(root: Path, tmp_path: Path) -> None:
    """With `create` the task drops its tables on every call."""
    paths = [make_raw(tmp_path, n) for n in range(1, 5)]
    plugin = Gen2Ingest(config(root, create=True))
    assert all(o.ok for o in plugin.ingest(paths[:2]))
    assert all(o.ok for o in plugin.ingest(paths[2:3]))
    again = Gen2Ingest(config(root, create=True))
    assert all(o.ok for o in again.ingest(paths[3:]))

    assert visits(root) == [1, 2, 3, 4]
    assert [call["create"] for call in LegacyTask.prepared] == [False, True, False]
    assert (root / CREATED_NAME).exists()


def test_create_never_drops_an_existing_registry(root: Path, tmp_path: Path) -> None:
    assert all(o.ok for o in Gen2Ingest(config(root)).ingest([make_raw(tmp_path, 1)]))
    assert all(o.ok for o in Gen2Ingest(config(root, create=True)).ingest([make_raw(tmp_path, 2)]))
    assert visits(root) == [1, 2]


def test_create_is_kept_for_the_first_file_that_goes_in(root: Path, tmp_path: Path) -> None:
    plugin = Gen2Ingest(config(root, create=True))
    junk = tmp_path / "junk.fits"
    junk.write_text("junk")
    paths = [str(junk), make_raw(tmp_path, 1), make_raw(tmp_path, 2)]

    assert [o.ok for o in plugin.ingest(paths)] == [False, True, True]
    assert visits(root) == [1, 2]


def test_create_makes_a_missing_root(tmp_path: Path) -> None:
    Gen2Ingest(config(tmp_path / "new" / "repo", "BareTask", create=True))
    assert (tmp_path / "new" / "repo").is_dir()
    Gen2Ingest(config(tmp_path / "other", "BareTask", create=True, dryrun=True))
    assert not (tmp_path / "other").exists()


def test_a_dry_run_changes_nothing(root: Path, tmp_path: Path) -> None:
    before = sorted(root.iterdir())
    plugin = Gen2Ingest(config(root, dryrun=True, create=True))
    (outcome,) = plugin.ingest([make_raw(tmp_path, 1)])
    assert outcome.ok
    assert "dry run" in outcome.message
    assert sorted(root.iterdir()) == before
    assert not any(call["create"] for call in LegacyTask.prepared)


def test_a_broken_file_fails_with_its_cause_and_alone(root: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.fits"
    junk.write_text("junk")
    paths = [make_raw(tmp_path, 1), str(junk), make_raw(tmp_path, 2)]

    outcomes = list(Gen2Ingest(config(root)).ingest(paths))

    assert [o.ok for o in outcomes] == [True, False, True]
    assert "IngestError: Failed to ingest file" in outcomes[1].message
    assert "caused by ValueError" in outcomes[1].message
    assert not outcomes[1].transient


def test_the_same_file_again_is_a_success_with_a_note(root: Path, tmp_path: Path) -> None:
    path = make_raw(tmp_path, 1)
    plugin = Gen2Ingest(config(root))
    assert list(plugin.ingest([path])) == [Outcome.success(path)]
    assert list(plugin.ingest([path])) == [Outcome.success(path, "already ingested")]


def test_the_same_file_again_in_copy_mode(root: Path, tmp_path: Path) -> None:
    path = make_raw(tmp_path, 1)
    plugin = Gen2Ingest(config(root, mode="copy"))
    list(plugin.ingest([path]))
    assert list(plugin.ingest([path])) == [Outcome.success(path, "already ingested")]
    Path(path).write_text("1\nother pixels\n")
    (outcome,) = plugin.ingest([path])
    assert "already has a file with this data ID" in outcome.message


def test_another_file_with_the_same_data_id_is_a_conflict(root: Path, tmp_path: Path) -> None:
    plugin = Gen2Ingest(config(root))
    list(plugin.ingest([make_raw(tmp_path, 1)]))
    (outcome,) = plugin.ingest([make_raw(tmp_path, 1, "other.fits")])
    assert not outcome.ok
    assert f"already has a file with this data ID ({root}/raw/1.fits)" in outcome.message


def test_a_lost_target_is_not_the_same_file(root: Path, tmp_path: Path) -> None:
    plugin = Gen2Ingest(config(root))
    path = make_raw(tmp_path, 1)
    list(plugin.ingest([path]))
    (root / "raw" / "1.fits").unlink()
    (root / "raw" / "1.fits").symlink_to("/nowhere")
    (outcome,) = plugin.ingest([path])
    assert not outcome.ok


def test_with_ignore_ingested_the_task_is_silent(root: Path, tmp_path: Path) -> None:
    path = make_raw(tmp_path, 1)
    plugin = Gen2Ingest(config(root, ignoreIngested=True))
    assert list(plugin.ingest([path, path])) == [
        Outcome.success(path),
        Outcome.success(path, "already ingested"),
    ]


def test_a_task_that_overwrites_says_already_ingested(root: Path, tmp_path: Path) -> None:
    path = make_raw(tmp_path, 1)
    plugin = Gen2Ingest(config(root, "ClobberingTask"))
    assert [o.message for o in plugin.ingest([path, path])] == ["", "already ingested"]


def test_a_skipped_file_is_a_failure(root: Path, tmp_path: Path) -> None:
    """The task skips files that are declared bad without an error."""
    (outcome,) = Gen2Ingest(config(root)).ingest([make_raw(tmp_path, 1, "bad.fits")])
    assert not outcome.ok
    assert "skipped" in outcome.message


def test_already_there_without_a_way_to_tell_is_a_failure(root: Path, tmp_path: Path) -> None:
    (outcome,) = Gen2Ingest(config(root, "WarningTask")).ingest([make_raw(tmp_path, 1)])
    assert not outcome.ok
    assert "already has a file with this data ID: IngestError" in outcome.message


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (OSError(errno.EROFS, "Read-only file system"), True),
        (OSError(errno.ENOTCONN, "Transport endpoint is not connected"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), True),
        (TimeoutError("timed out"), True),
        (MemoryError("no memory"), True),
        (psycopg2.OperationalError("could not connect to server"), True),
        (psycopg2.ProgrammingError("syntax error"), False),
        (sqlite3.OperationalError("database is locked"), True),
        (sqlite3.OperationalError("disk I/O error"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (sqlite3.OperationalError("unable to open database file"), True),
        (sqlite3.OperationalError("attempt to write a readonly database"), True),
        (sqlite3.OperationalError("no such table: raw"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (ValueError("no such filter"), False),
    ],
)
def test_transient_and_permanent(
    root: Path, tmp_path: Path, error: Exception, transient: bool
) -> None:
    BareTask.error = error
    (outcome,) = Gen2Ingest(config(root, "BareTask")).ingest([make_raw(tmp_path, 1)])
    assert not outcome.ok
    assert outcome.transient is transient
    assert str(error) in outcome.message


def test_a_repository_that_went_away_is_transient(root: Path, tmp_path: Path) -> None:
    plugin = Gen2Ingest(config(root))
    root.rename(tmp_path / "unmounted")
    (outcome,) = plugin.ingest([make_raw(tmp_path, 1)])
    assert outcome.transient
    assert "repository cannot be written" in outcome.message


def test_writers_of_one_registry_wait_for_each_other(root: Path, tmp_path: Path) -> None:
    """The task copies the registry and puts it back: two at once would lose rows."""
    seen: list[bool] = []

    class Looking(BareTask):
        def ingestFiles(self, names: Any) -> None:
            with open(root / LOCK_NAME) as lock, pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            seen.append(True)

    globals()["Looking"] = Looking
    (outcome,) = Gen2Ingest(config(root, "Looking")).ingest([make_raw(tmp_path, 1)])
    assert outcome.ok
    assert seen == [True]


def test_a_root_that_cannot_be_locked_is_used_with_a_warning(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    outcomes = list(Gen2Ingest(config(root)).ingest([make_raw(tmp_path, n) for n in (1, 2)]))
    assert [o.ok for o in outcomes] == [True, True]
    assert caplog.text.count("cannot be locked") == 1


def test_move_is_refused(root: Path) -> None:
    with pytest.raises(PluginConfigError, match=r"plugin.config.ingest.mode: move is refused"):
        Gen2Ingest(config(root, mode="move"))
    with pytest.raises(PluginConfigError, match="expected one of link, copy, skip, got 'magic'"):
        Gen2Ingest(config(root, mode="magic"))


def test_a_missing_root_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(PluginConfigError, match=r"plugin.config.butler.root: .* does not exist"):
        Gen2Ingest(config(tmp_path / "missing"))
    file = make_raw(tmp_path, 1)
    with pytest.raises(PluginConfigError, match=r"plugin.config.butler.root: .* not a directory"):
        Gen2Ingest(config(Path(file), create=True))


def test_a_root_that_the_task_refuses(root: Path) -> None:
    (root / "_mapper").unlink()
    with pytest.raises(PluginConfigError, match=r"butler.root: .*error: no mapper found"):
        Gen2Ingest(config(root))
    with pytest.raises(PluginConfigError, match="gave no reason"):
        Gen2Ingest(config(root, "ExitingTask"))


@pytest.mark.parametrize(
    ("task", "missing"),
    [("lsst.pipe.tasks.ingest.IngestTask", "lsst.pipe.tasks"), ("no_such_package.Task", "no_such")],
)
def test_without_the_legacy_task_the_error_says_what_is_missing(
    root: Path, task: str, missing: str
) -> None:
    with pytest.raises(PluginConfigError) as caught:
        Gen2Ingest(config(root, task))
    text = str(caught.value)
    assert text.startswith(f"plugin.config.ingest.task: {task} cannot be imported")
    assert "removed from the LSST pipelines after v24" in text
    if task.startswith("no_such"):
        assert f"missing package: {missing}" in text


def test_what_is_no_task() -> None:
    with pytest.raises(PluginConfigError, match="has no prepareTask"):
        import_task(f"{__name__}.not_a_task")
    with pytest.raises(PluginConfigError, match="cannot be imported"):
        import_task("nodots")


def test_version_without_one(root: Path) -> None:
    class Elsewhere(BareTask):
        __module__ = "_pytest.config"

    class Nowhere(BareTask):
        __module__ = "nowhere.at.all"

    globals().update(Elsewhere=Elsewhere, Nowhere=Nowhere)
    assert Gen2Ingest(config(root, "Elsewhere")).version()[0].isdigit()
    assert Gen2Ingest(config(root, "Nowhere")).version() == "unknown"


def test_through_the_host(root: Path, tmp_path: Path) -> None:
    """The way it runs in production: in a child, with the task found on the path."""
    paths = [make_raw(tmp_path, n) for n in (1, 2)]
    paths.insert(1, str(tmp_path / "missing.fits"))
    host = PluginHost("ingest.plugins.gen2.Gen2Ingest", config(root, create=True))
    verdicts = list(attempt(host, paths, timeout_s=60.0))
    host.close()

    assert [v.kind for v in verdicts] == [
        VerdictKind.SUCCESS,
        VerdictKind.FAILURE,
        VerdictKind.SUCCESS,
    ]
    assert {v.version for v in verdicts} == {"24.1"}
    assert visits(root) == [1, 2]


def test_the_plugin_is_imported_without_the_pipelines() -> None:
    program = "import sys, ingest.plugins.gen2; assert 'lsst' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
