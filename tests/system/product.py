"""The product as an operator has it: commands as processes, a database, directories, YAML files.

Nothing here imports the product's models: rows are read by SQL, as any other tool would.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import blake3
import psycopg2
import yaml

from buffer.names import INCOMING_DIR, MARKER_NAME
from ingest.statuses import Status
from tests.system import process_table

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "tests" / "quickstart"

#: In the URL of every PostgreSQL database; the server trusts anybody, and no output may show it.
PASSWORD = "s3cret-of-the-database"

#: No wait here takes anywhere near so long on a machine that works.
DEADLINE_S = 90.0
#: "Within seconds" of SIGTERM, on a machine that is busy with other tests too.
STOP_S = 10.0

#: What no command gets from the environment of the tests.
_NOT_INHERITED = (
    "DATABASE_URL",
    "DJANGO_SETTINGS_MODULE",
    "INGEST_PLUGINS",
    "PYTHONPATH",
    "Q_BROKER_URL",
    "TEST_DATABASE",
)

OPEN = (Status.UNTRIED, Status.PENDING, Status.RERUN)


@dataclass(frozen=True)
class Finished:
    """What a command that has ended left behind."""

    status: int
    out: str
    err: str

    def refused(self, *words: str) -> str:
        """Check that it ended as bad configuration does, and that its error has these words."""
        assert self.status == 2, f"exit status {self.status}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err, self.err
        assert self.out == "", self.out
        for word in words:
            assert word in self.err, f"{word!r} is not in the error:\n{self.err}"
        return self.err

    def succeeded(self) -> str:
        """Check that it ended well; give what it printed."""
        assert self.status == 0, f"exit status {self.status}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err, self.err
        return self.out


class Command:
    """A command that runs.

    Parameters
    ----------
    arguments
        Of ``manage.py``, or a whole command line.
    environment
        All of it.
    logs
        Beginning of the names of the files that its output goes to.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], logs: Path) -> None:
        self.arguments = list(arguments)
        self.killed = False
        self._out, self._err = Path(f"{logs}.out"), Path(f"{logs}.err")
        line = self.arguments
        if not os.path.isabs(line[0]):
            line = [sys.executable, "manage.py", *line]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                line,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._out.read_text("utf-8", "backslashreplace")

    @property
    def err(self) -> str:
        return self._err.read_text("utf-8", "backslashreplace")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def says(self, text: str) -> bool:
        """Whether a text is in what it wrote to standard error."""
        return text in self.err

    def kill(self) -> None:
        """SIGKILL for the command alone; what it started is to die of that."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def ends(self, within_s: float = DEADLINE_S) -> Finished:
        """Wait for it to end by itself."""
        try:
            status = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s:g} s: {self}") from None
        return Finished(status, self.out, self.err)

    def stops(self, signum: int = signal.SIGTERM, within_s: float = STOP_S) -> Finished:
        """Ask it to stop; check that it does so cleanly and soon, and that nobody is left."""
        assert self.running, f"ended by itself with status {self.process.returncode}: {self}"
        everybody = process_table.descendants(self.process.pid)
        begin = time.monotonic()
        self.process.send_signal(signum)
        done = self.ends(60)
        took = time.monotonic() - begin
        assert took < within_s, f"took {took:.1f} s to stop: {self}"
        done.succeeded()
        left = [pid for pid in everybody if process_table.is_alive(*pid)]
        assert not left, f"processes {left} outlived {self}"
        return done

    def __str__(self) -> str:
        return (
            f"{' '.join(self.arguments)}\n--- its output:\n{self.out}\n"
            f"--- its errors (the end):\n{self.err[-6000:]}"
        )


class Product:
    """One installation: directories below `root`, a database that is its own, and commands.

    Parameters
    ----------
    root
        A directory for everything.
    url
        The database, with the tables made.
    """

    def __init__(self, root: Path, url: str) -> None:
        self.root, self.url = root, url
        self.buffer, self.storage = root / "buffer", root / "storage"
        self.modules = root / "modules"
        for directory in (self.buffer, self.storage, self.modules):
            directory.mkdir()
        self.token = f"endpoint-test-{uuid.uuid4().hex}"
        self.environment = {
            **{key: text for key, text in os.environ.items() if key not in _NOT_INHERITED},
            "DJANGO_SETTINGS_MODULE": "endpoint_site.settings",
            "ENDPOINT_DATA_DIR": str(root / "data"),
            "SECRET_KEY": "of one test",
            "PYTHONPATH": str(self.modules),
            "PRODUCT_UNDER_TEST": self.token,
        }
        self.commands: list[Command] = []
        self._connection: Any = None
        self._count = 0

    @property
    def is_postgresql(self) -> bool:
        return self.url.startswith("postgres")

    # Commands

    def start(self, *arguments: str | Path, **environment: str) -> Command:
        """Start a command."""
        self._count += 1
        command = Command(
            [str(argument) for argument in arguments],
            {**self.environment, **environment},
            self.root / f"command-{self._count}",
        )
        self.commands.append(command)
        return command

    def run(
        self, *arguments: str | Path, within_s: float = DEADLINE_S, **environment: str
    ) -> Finished:
        """Run a command to its end."""
        return self.start(*arguments, **environment).ends(within_s)

    def admin(self, *arguments: str | Path) -> Finished:
        """Run a command that takes the database from the environment."""
        return self.run(*arguments, DATABASE_URL=self.url)

    def left_over(self) -> list[int]:
        """Processes of this product that live."""
        return process_table.with_environment(f"PRODUCT_UNDER_TEST={self.token}")

    def wait(
        self, condition: Callable[[], object], what: str, within_s: float = DEADLINE_S
    ) -> None:
        """Wait until something is so; otherwise fail, and show what the commands wrote."""
        end = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"not within {within_s:g} s: {what}\n{self.report()}")
            time.sleep(0.05)

    def report(self) -> str:
        """Describe the state of everything, for a failed test."""
        parts = [str(command) for command in self.commands if command.running]
        parts += [str(command) for command in self.commands[-2:] if not command.running]
        with contextlib.suppress(Exception):
            parts.append(f"statuses: {self.all_statuses()}")
            parts.append(f"refusals: {self.rows('SELECT reason, path FROM buffer_refusal')}")
        return "\n=====\n".join(parts)

    def close(self) -> None:
        """End what is left, and check that there was nothing that should not be."""
        running = [command for command in self.commands if command.running]
        for command in running:
            command.kill()
        with contextlib.suppress(AssertionError):
            self.wait(lambda: not self.left_over(), "killed commands are gone", 10)
        left = self.left_over()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._connection is not None:
            self._connection.close()
        assert not left, f"processes outlived their commands: {left}"
        for command in self.commands:
            assert PASSWORD not in command.out + command.err, f"the password is shown: {command}"

    # Rows

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement (with %s for parameters), committed at once."""
        if self.is_postgresql:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg2.connect(self.url)
                self._connection.autocommit = True
            with self._connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return cursor.fetchall() if cursor.description else []
        if self._connection is None:
            path = self.url.removeprefix("sqlite:///")
            self._connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        found: list[tuple[Any, ...]] = self._connection.execute(
            sql.replace("%s", "?"), parameters
        ).fetchall()
        return found

    def value(self, sql: str, *parameters: Any) -> Any:
        """Give the only value of the only row; None without rows."""
        rows = self.rows(sql, *parameters)
        return rows[0][0] if rows else None

    def all_statuses(self) -> dict[str, dict[str, int]]:
        """Count the files of each ingester by their status."""
        found: dict[str, dict[str, int]] = {}
        for name, status, count in self.rows(
            "SELECT g.name, n.status, count(*) FROM ingest_ingestion n"
            " JOIN ingest_ingester g ON g.id = n.ingester_id GROUP BY g.name, n.status"
        ):
            found.setdefault(name, {})[status] = count
        return found

    def statuses(self) -> Counter[str]:
        """Count ingestions by their status, of all ingesters."""
        return Counter(dict(self.rows("SELECT status, count(*) FROM ingest_ingestion GROUP BY 1")))

    def status_of(self, filename: str) -> str | None:
        """Give the status of one file."""
        found: str | None = self.value(
            "SELECT n.status FROM ingest_ingestion n JOIN buffer_file f ON f.id = n.file_id"
            " WHERE f.filename = %s",
            filename,
        )
        return found

    def history(self, filename: str) -> list[str]:
        """Give the statuses of one file, oldest first."""
        rows = self.rows(
            "SELECT e.status FROM ingest_fileevent e JOIN buffer_file f ON f.id = e.file_id"
            " WHERE f.filename = %s ORDER BY e.id",
            filename,
        )
        return [status for (status,) in rows]

    def message_of(self, filename: str) -> str:
        """Give what the newest event of a file says, and its note."""
        rows = self.rows(
            "SELECT e.err_message, e.note FROM ingest_fileevent e"
            " JOIN buffer_file f ON f.id = e.file_id WHERE f.filename = %s"
            " ORDER BY e.id DESC LIMIT 1",
            filename,
        )
        return " ".join(rows[0]).strip() if rows else ""

    def file_id(self, filename: str) -> int:
        """Give the id of a file."""
        return int(self.value("SELECT id FROM buffer_file WHERE filename = %s", filename))

    def stored(self) -> int:
        """Count the files whose take-in is complete."""
        return int(self.value("SELECT count(*) FROM buffer_file WHERE stored_on IS NOT NULL"))

    def final(self) -> int:
        """Count the ingestions at which nobody works or will."""
        return sum(n for status, n in self.statuses().items() if status not in OPEN)

    def has_no_rows(self) -> bool:
        """Whether nothing at all was recorded."""
        tables = ("buffer_storage", "buffer_file", "buffer_component", "ingest_ingester")
        return not any(self.value(f"SELECT count(*) FROM {table}") for table in tables)

    # Files

    def is_untouched(self) -> bool:
        """Whether no storage was begun on disk or in rows."""
        return not any(self.storage.iterdir()) and self.has_no_rows()

    def land(self, name: str, content: bytes | str | None = None) -> Path:
        """Put a file into the buffer, whole at once as rsync does it."""
        path = self.buffer / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.part")
        data = f"content of {name}\n" if content is None else content
        draft.write_bytes(data if isinstance(data, bytes) else data.encode())
        draft.rename(path)
        return path

    def files_in(self, directory: Path) -> dict[str, bytes]:
        """Read all files below a directory, but for what belongs to the product."""
        return {
            str(path.relative_to(directory)): path.read_bytes()
            for path in sorted(directory.rglob("*"))
            if path.is_file()
            and path.name != MARKER_NAME
            and INCOMING_DIR not in path.relative_to(directory).parts
        }

    # Configuration

    def write(self, name: str, content: dict[str, Any] | str) -> Path:
        """Write a YAML file."""
        path = self.root / name
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        path.write_text(text, encoding="utf-8")
        return path

    def quickstart(self, name: str) -> Path:
        """Write one of the quickstart's files, with only the URL and the paths changed."""
        text = (QUICKSTART / name).read_text("utf-8")
        for theirs, ours in (
            ("postgres://tester:password@localhost:5432/test", self.engine),
            ("/data/buffer", str(self.buffer)),
            ("/data/storage", str(self.storage)),
            ("/data/gen2repo", str(self.root / "gen2repo")),
        ):
            text = text.replace(theirs, ours)
        assert "/data/" not in text
        return self.write(name, text)

    @property
    def engine(self) -> str:
        """The database as the quickstart writes it."""
        return self.url.replace("postgresql://", "postgres://")

    def database(self, event: str | None = None) -> dict[str, Any]:
        """Give a ``database`` section."""
        tables: dict[str, Any] = {"file": {"table": "files"}}
        if event is not None:
            tables["event"] = {"table": event}
        return {"engine": self.engine, "tablenames": tables}

    def finder_yaml(self, name: str = "finder.yaml", **finder: Any) -> Path:
        """Write a finder's file; without waiting for slow writers, which these tests have not."""
        return self.write(name, {"database": self.database(), "finder": self.finder(**finder)})

    def finder(self, **changes: Any) -> dict[str, Any]:
        """Give a ``finder`` section."""
        return {
            "source": str(self.buffer),
            "storage": str(self.storage),
            "actions": {"standard": "Move", "alternative": "Delete"},
            "search": {"method": "scan", "delay": 0.2},
            "pause": 0.1,
            "fsync": False,
            **changes,
        }

    def ingester_yaml(
        self,
        plugin: str = "NullIngest",
        config: dict[str, Any] | None = None,
        *,
        name: str = "ingester.yaml",
        event: str = "file_events",
        **section: Any,
    ) -> Path:
        """Write an ingester's file."""
        choice = {"name": plugin, "config": config or {}}
        content = {"plugin": choice, "pause": 0.1, **section}
        return self.write(name, {"database": self.database(event), "ingester": content})

    def add_plugins(self) -> None:
        """Put the observatory's own plugins on the path of the commands, and allow them."""
        source = Path(__file__).with_name("observatory_plugins.py")
        (self.modules / source.name).write_text(source.read_text("utf-8"), "utf-8")
        names = ("Counting", "CountingAndTelling", "Moody", "Outage", "Registry", "SometimesDown")
        self.environment["INGEST_PLUGINS"] = ",".join(f"observatory_plugins.{n}" for n in names)

    # What must hold at the end of every test

    def check_invariants(self) -> None:
        """Check rows against each other and against the files on disk."""
        current = self.rows(
            "SELECT n.file_id, n.status, e.status, e.id,"
            " (SELECT max(id) FROM ingest_fileevent x"
            "  WHERE x.file_id = n.file_id AND x.ingester_id = n.ingester_id)"
            " FROM ingest_ingestion n LEFT JOIN ingest_fileevent e ON e.id = n.last_event_id"
        )
        for file_id, status, of_event, event_id, newest in current:
            assert (status, event_id) == (of_event, newest), f"file {file_id}: not the last event"
        doubled = self.rows(
            "SELECT file_id, claim, count(*) FROM ingest_fileevent"
            " WHERE claim IS NOT NULL AND status <> 'PENDING'"
            " GROUP BY file_id, claim HAVING count(*) > 1"
        )
        assert doubled == [], "a claim has two outcomes"
        known = {}
        for relpath, filename, size, digest, algorithm in self.rows(
            "SELECT relpath, filename, size_bytes, checksum, checksum_algorithm FROM buffer_file"
            " WHERE stored_on IS NOT NULL"
        ):
            name = f"{relpath}/{filename}" if relpath else filename
            known[name] = (size, digest if algorithm == "blake3" else None)
        for name, (size, digest) in known.items():
            content = (self.storage / name).read_bytes()
            assert len(content) == size, name
            assert digest in (None, blake3.blake3(content).hexdigest()), name

    def check_at_rest(self) -> None:
        """Check that nothing is held or half done, once the commands have ended as they should."""
        held = self.rows("SELECT id, status FROM ingest_ingestion WHERE claim IS NOT NULL")
        assert held == [], "files are still claimed"
        assert self.value("SELECT count(*) FROM buffer_file WHERE stored_on IS NULL") == 0
        killed = {command.process.pid for command in self.commands if command.killed}
        unstopped = self.rows(
            "SELECT kind, pid FROM buffer_component WHERE stopped_on IS NULL AND kind <> 'session'"
        )
        assert {pid for _, pid in unstopped} <= killed, f"ended, but said to run: {unstopped}"


def sqlite_url(path: Path) -> str:
    """Give the URL of an SQLite file."""
    return f"sqlite:///{quote(str(path))}"


def with_password(url: str, database: str) -> str:
    """Give the URL of another database on a PostgreSQL server, with a password in it."""
    scheme, _, rest = url.partition("://")
    credentials, _, place = rest.rpartition("@")
    user = credentials.partition(":")[0] or "postgres"
    password = credentials.partition(":")[2] or PASSWORD
    return f"{scheme}://{user}:{password}@{place.partition('/')[0]}/{database}"


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Write a text file."""
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
