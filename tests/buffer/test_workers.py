"""The embedded workers, as real processes: run, watched, killed, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from buffer import processes
from buffer.workers import Workers, beat, stopping
from tests import servers
from tests.conftest import unavailable

COMMAND = Path(__file__).with_name("workers_command.py")
ROOT = COMMAND.parents[2]


class Command:
    """A running workers_command.py."""

    def __init__(self, home: Path, environment: dict[str, str], options: dict[str, Any]) -> None:
        self.home = home
        self.sent = 0
        (home / "inbox").mkdir(parents=True)
        with open(home / "stderr", "w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(COMMAND), str(home), json.dumps({"count": 2, **options})],
                env={
                    **os.environ,
                    **environment,
                    "DJANGO_SETTINGS_MODULE": "endpoint_site.settings",
                },
                stderr=stderr,
                start_new_session=True,
            )
        self.wait((home / "status").exists, "the command did not start")

    @property
    def status(self) -> dict[str, Any]:
        """What the command says of itself now."""
        path = self.home / "status"
        path.unlink(missing_ok=True)
        self.wait(path.exists, "no status")
        return dict(json.loads(path.read_text()))

    @property
    def pids(self) -> dict[str, list[int]]:
        return dict(self.status["pids"])

    def victims(self, role: str) -> list[int]:
        """Wait until there is somebody of a role."""
        found: list[int] = self.wait(lambda: self.pids[role], f"there is no {role}")
        return found

    @property
    def log(self) -> str:
        path = self.home / "log"
        return path.read_text() if path.exists() else ""

    @property
    def stderr(self) -> str:
        return (self.home / "stderr").read_text()

    def send(self, func: str, *args: object) -> str:
        """Have a session run; its word is returned."""
        self.sent += 1
        word = f"word{self.sent}"
        order = self.home / "inbox" / f"{self.sent:04d}"
        order.write_text(json.dumps([func, word, *args]))
        order.rename(order.with_suffix(".json"))
        return word

    def pid_after(self, text: str) -> int:
        """Wait for a line of the log and return the pid that follows."""
        lines = self.wait(
            lambda: [line for line in self.log.splitlines() if line.startswith(text + " ")], text
        )
        return int(lines[0].removeprefix(text).split()[0])

    def runs(self, within_s: float = 20) -> float:
        """Check that a session runs; return the seconds until it did."""
        begin = time.monotonic()
        word = self.send("quick")
        self.wait(lambda: f"ran {word}" in self.log, "the session did not run", within_s)
        return time.monotonic() - begin

    def wait(self, found: Callable[[], Any], missing: str, within_s: float = 20) -> Any:
        end = time.monotonic() + within_s
        while not (result := found()):
            if time.monotonic() > end:
                detail = self.stderr[-3000:] + "\n" + self.log[-3000:]
                pytest.fail(f"{missing} after {within_s} s\n{detail}")
            time.sleep(0.02)
        return result

    def everybody(self) -> list[processes.Process]:
        """All processes of the command, itself included."""
        me = processes.read_process(self.process.pid)
        assert me is not None
        return [me, *processes.descendants(me.pid)]

    def ends(self, within_s: float, status: int = 0) -> None:
        assert self.process.wait(within_s) == status, self.stderr


class Relay:
    """A TCP relay to the database server that can be cut."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self.port = 0
        self.restore()
        user = f"{parts.username}:{parts.password}" if parts.password else parts.username
        self.url = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self.port}"))

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *error: object) -> None:
        self.cut()

    def restore(self) -> None:
        self.sockets = [socket.create_server(("127.0.0.1", self.port))]
        self.port = self.sockets[0].getsockname()[1]
        threading.Thread(target=self._accept, args=(self.sockets[0],), daemon=True).start()

    def cut(self) -> None:
        while self.sockets:
            end = self.sockets.pop()
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self.target)
                self.sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("workers") / "workers.sqlite3"
    return migrated(f"sqlite:///{path}")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    server = servers.postgres_url()
    if server is None:
        unavailable("there is no PostgreSQL")
        return
    name = f"workers_{uuid.uuid4().hex[:12]}"
    connection = psycopg2.connect(server)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        try:
            yield migrated(f"{server.rpartition('/')[0]}/{name}")
        finally:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    connection.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def migrated(url: str) -> str:
    """Make the tables of django-q2 in a scratch database."""
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "django_q", "--verbosity=0"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "endpoint_site.settings"},
        check=True,
    )
    return url


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start commands; afterwards nothing of them may be left."""
    commands: list[Command] = []

    def start(database: str, redis: str = "", **options: Any) -> Command:
        environment = {"DATABASE_URL": database, "Q_BROKER_URL": redis}
        command = Command(tmp_path / f"command{len(commands)}", environment, options)
        commands.append(command)
        return command

    yield start
    for command in commands:
        if command.process.poll() is None:
            processes.kill_all(command.everybody())
            command.process.wait()


def stops_cleanly(command: Command, send: Callable[[], object], within_s: float = 10) -> None:
    """Check that after `send` the command exits with status 0 in time and leaves nobody."""
    everybody = command.everybody()
    assert len(everybody) >= 5
    begin = time.monotonic()
    send()
    command.ends(20)
    assert time.monotonic() - begin < within_s, command.stderr
    assert not [process for process in everybody if process.alive]
    assert "stopped True" in command.log


def test_needs_a_worker() -> None:
    with pytest.raises(ValueError, match="expected 1 or more, got 0"):
        Workers("any", 0, session_timeout_s=1)


def test_outside_workers_nothing_stops() -> None:
    beat()
    assert stopping() is False


def test_sessions_run_and_an_idle_command_stops_at_once(
    run: Callable[..., Command], database: str
) -> None:
    command = run(database)
    assert command.runs() < 10
    command.send("fails")
    command.wait(lambda: "a worker's session failed" in command.stderr, "no log line")
    for _ in range(3):
        command.runs()
    stops_cleanly(command, lambda: command.process.terminate())


def test_what_was_imported_is_no_garbage(run: Callable[..., Command], database: str) -> None:
    command = run(database)
    word = command.send("frozen")
    command.pid_after(f"left out {word}")


def test_a_busy_session_gives_back_what_it_has(run: Callable[..., Command], database: str) -> None:
    command = run(database)
    word = command.send("sleepy", 60)
    command.pid_after(f"began {word}")
    stops_cleanly(command, lambda: command.process.terminate())
    assert f"gave back {word}" in command.log


def test_signals_to_the_whole_group_and_repeated_ones_stop_cleanly(
    run: Callable[..., Command], sqlite: str
) -> None:
    def twice(command: Command, signum: int) -> None:
        os.killpg(command.process.pid, signum)
        time.sleep(0.1)
        os.killpg(command.process.pid, signum)

    commands = [(run(sqlite), s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    for command, signum in commands:
        stops_cleanly(command, lambda c=command, s=signum: twice(c, s))  # type: ignore[misc]
        assert signum.name in command.log


def test_a_killed_process_is_replaced(run: Callable[..., Command], database: str) -> None:
    command = run(database)
    for role in ("monitor", "pusher", "worker", "sentinel"):
        victims = set(command.victims(role))
        assert command.status["restarts"] == 0
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        for _ in range(3):
            command.runs()
        command.wait(lambda v=victims, r=role: not v & set(command.pids[r]), "not replaced")
    assert command.status["restarts"] == 1
    assert "being restarted: their sentinel died" in command.stderr
    stops_cleanly(command, lambda: command.process.terminate())


def test_the_idle_worker_next_in_line_may_be_killed_again_and_again(
    run: Callable[..., Command], sqlite: str
) -> None:
    command = run(sqlite, count=3)
    for _ in range(6):
        victim = command.victims("worker")[0]
        os.kill(victim, signal.SIGKILL)
        assert command.runs() < 5
        command.wait(lambda v=victim: v not in command.pids["worker"], "not replaced")
    assert command.status["restarts"] == 0
    assert "check:" not in command.log


def test_a_killed_busy_worker_takes_its_plugin_and_what_it_forked_along(
    run: Callable[..., Command], sqlite: str
) -> None:
    command = run(sqlite)
    pid = command.pid_after(f"child {command.send('with_child', 'forking')}")
    child = processes.read_process(pid)
    assert child is not None
    host = processes.read_process(child.parent)
    assert host is not None
    assert {host.pid, child.pid} <= set(command.pids["other"])
    assert host.parent in command.pids["worker"]
    os.kill(host.parent, signal.SIGKILL)
    command.wait(lambda: not host.alive and not child.alive, "an orphan survived")
    command.runs()
    assert command.status["restarts"] == 0


def test_nothing_survives_a_killed_command(run: Callable[..., Command], database: str) -> None:
    command = run(database)
    word = command.send("with_child", "plain")
    grandchild = command.pid_after(f"child {word}")
    everybody = command.everybody()
    assert grandchild in [process.pid for process in everybody]
    command.process.kill()
    command.ends(5, -signal.SIGKILL)
    command.wait(lambda: not any(process.alive for process in everybody), "somebody survived", 5)


def test_a_session_hung_in_c_is_killed_at_the_stop(
    run: Callable[..., Command], sqlite: str
) -> None:
    command = run(sqlite, grace_s=1)
    hung = command.pid_after(f"began {command.send('hung')}")
    forked = command.pid_after(f"child {command.send('with_child', 'forking')}")
    everybody = command.everybody()
    assert {hung, forked} <= {process.pid for process in everybody}
    command.process.terminate()
    command.ends(6)
    assert not [process for process in everybody if process.alive]
    assert "stopped False" in command.log
    assert f"(in a session: {hung}, " in command.stderr or f", {hung})" in command.stderr


def test_an_overdue_session_is_killed_and_its_worker_replaced(
    run: Callable[..., Command], sqlite: str
) -> None:
    command = run(sqlite, count=1, timeouts=[1, 10])
    hung = command.pid_after(f"began {command.send('hung')}")
    assert command.runs() > 1
    # What it says of itself may be from just before.
    command.wait(lambda: command.pids["worker"] != [hung], "not replaced")
    assert not Path(f"/proc/{hung}").exists()
    assert command.status["restarts"] == 0


@pytest.mark.parametrize("role", ["sentinel", "pusher", "worker"])
def test_a_frozen_process_is_noticed(run: Callable[..., Command], sqlite: str, role: str) -> None:
    command = run(sqlite, count=1, canary_s=1.5)
    command.runs()
    frozen = command.victims(role)
    os.kill(frozen[0], signal.SIGSTOP)
    command.runs()
    if role == "sentinel":  # the workers do without it for a while
        command.wait(lambda: command.status["restarts"], "not restarted")
    assert "check:" in command.log
    command.wait(lambda: command.pids[role] != frozen, "not replaced")
    stops_cleanly(command, lambda: command.process.terminate())


def test_a_lost_database_connection_is_made_again(
    run: Callable[..., Command], postgresql: str
) -> None:
    command = run(postgresql)
    command.runs()
    with psycopg2.connect(postgresql) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        found = cursor.fetchone()
    assert found is not None and found[0] >= 2
    command.runs()
    assert "Traceback" not in command.stderr


def test_redis_as_the_broker(run: Callable[..., Command], sqlite: str) -> None:
    redis = servers.redis_url()
    if redis is None:
        unavailable("there is no Redis")
        return
    command = run(sqlite, redis)
    command.runs()
    os.kill(command.victims("worker")[0], signal.SIGKILL)
    command.runs()
    stops_cleanly(command, lambda: command.process.terminate(), within_s=4)


def test_a_broker_that_is_away_is_waited_for_and_does_not_delay_the_stop(
    run: Callable[..., Command], postgresql: str
) -> None:
    with Relay(postgresql) as relay:
        command = run(relay.url)
        command.runs()
        relay.cut()
        word = command.send("quick")
        command.wait(lambda: f"unavailable {word}" in command.log, "send() said nothing")
        time.sleep(1.5)
        relay.restore()
        command.wait(lambda: f"ran {word}" in command.log, "not resumed")
        assert command.status["restarts"] == 0
        # Said by the pusher, and by the monitor if it had something to acknowledge; once each.
        assert 1 <= command.stderr.count("broker not available") <= 2
        assert "Traceback" not in command.stderr
        relay.cut()
        stops_cleanly(command, lambda: command.process.terminate(), within_s=4)
