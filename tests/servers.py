"""Servers for the tests: those named by the environment, else local ones, else our own.

PostgreSQL: ``TEST_POSTGRES_URL``, else 127.0.0.1:5432 as user postgres, else a server started from
installed binaries in a temporary directory. Redis likewise (``TEST_REDIS_URL``, port 6379).
"""

from __future__ import annotations

import atexit
import contextlib
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg2
import redis

from tests.system import process_table

DEFAULT_POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
DEFAULT_REDIS = "redis://127.0.0.1:6379/15"


def postgres_url() -> str | None:
    """Find or start a PostgreSQL server; None where there are not even binaries."""
    given = os.environ.get("TEST_POSTGRES_URL")
    url = given or (DEFAULT_POSTGRES if _postgres_answers(DEFAULT_POSTGRES) else None)
    if url is None:
        url = _start_postgres()
    if url is not None:
        # Workers of a parallel run, and the commands under test, use the same one.
        os.environ["TEST_POSTGRES_URL"] = url
    return url


def redis_url() -> str | None:
    """Find or start a Redis server; None where there is no binary."""
    given = os.environ.get("TEST_REDIS_URL")
    url = given or (DEFAULT_REDIS if _redis_answers(DEFAULT_REDIS) else None)
    if url is None:
        url = _start_redis()
    if url is not None:
        os.environ["TEST_REDIS_URL"] = url
    return url


def _postgres_answers(url: str) -> bool:
    try:
        psycopg2.connect(url, connect_timeout=3).close()
    except psycopg2.OperationalError:
        return False
    return True


def _redis_answers(url: str) -> bool:
    try:
        return bool(redis.Redis.from_url(url, socket_connect_timeout=2).ping())
    except redis.RedisError:
        return False


def _start_postgres() -> str | None:
    initdb = postgres_program("initdb")
    if initdb is None:
        return None
    home = make_postgres_home()
    server = Postgres(home)
    server.make_data()
    atexit.register(_remove, server)
    server.start()
    return server.url


def postgres_program(name: str) -> str | None:
    """Find a program that belongs to the server, which Debian puts beside PATH."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return shutil.which(name) or (found[-1] if found else None)


def make_postgres_home() -> Path:
    """Make a temporary directory that the server's user owns: it refuses to run as root."""
    home = Path(tempfile.mkdtemp(prefix="endpoint-postgres-"))
    if user := _postgres_user():
        shutil.chown(home, user)
    return home


class Postgres:
    """A PostgreSQL server of our own, which may be hurt.

    Parameters
    ----------
    home
        Its directory; see `make_postgres_home`. The data is in ``data`` below it.
    host
        The address that it listens at, on a free port.
    within
        A command that is to run it, as its user.
    settings
        For ``postgresql.conf``.
    """

    def __init__(
        self,
        home: Path,
        *,
        host: str = "127.0.0.1",
        within: list[str] | None = None,
        **settings: object,
    ) -> None:
        self.home, self.data = home, home / "data"
        self.host, self.port = host, free_port()
        self._within, self._user = within or [], None if within else _postgres_user()
        self.settings = {"fsync": "off", "unix_socket_directories": home, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its own database, as its superuser."""
        return f"postgresql://postgres@{self.host}:{self.port}/postgres"

    def make_data(self, *options: str) -> None:
        """Run initdb."""
        initdb = str(postgres_program("initdb"))
        subprocess.run(
            [initdb, "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", *options],
            check=True, user=_postgres_user(), cwd=self.home, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._within, str(postgres_program("postgres")), "-D", str(self.data),
                 "-p", str(self.port), "-h", self.host, *options],
                user=self._user, cwd=self.home, stdout=log, stderr=log,
            )  # fmt: skip
        if not _wait(lambda: _postgres_answers(self.url)):
            raise RuntimeError(f"PostgreSQL does not answer: {self.log}")

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.home / "log").read_text("utf-8", "replace")

    @property
    def running(self) -> bool:
        """Whether there is such a process, answering or not."""
        return self._process is not None and self._process.poll() is None

    def stop(self, signum: int = signal.SIGINT) -> None:
        """Stop it: SIGINT ends its sessions first, SIGQUIT ends everything at once."""
        if self._process is not None and self.running:
            self._process.send_signal(signum)
            self._process.wait(timeout=30)

    def stall(self) -> None:
        """Stop all its processes where they are; connections stay as they are."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)  # first: it starts no others any more
        self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let its processes continue."""
        if self.running:
            self._signal_all(signal.SIGCONT)

    def _signal_all(self, signum: int) -> None:
        assert self._process is not None
        below = [pid for pid, _ in process_table.descendants(self._process.pid)]
        for pid in [*below, self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)


def _postgres_user() -> str | None:
    return "postgres" if os.geteuid() == 0 else None


def _remove(server: Postgres) -> None:
    server.stop()
    shutil.rmtree(server.home, ignore_errors=True)


def _start_redis() -> str | None:
    binary = shutil.which("redis-server")
    if binary is None:
        return None
    home = Path(tempfile.mkdtemp(prefix="endpoint-redis-"))
    port = free_port()
    server = subprocess.Popen(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    atexit.register(_stop, server, home)
    url = f"redis://127.0.0.1:{port}/15"
    return url if _wait(lambda: _redis_answers(url)) else None


def _stop(server: subprocess.Popen[bytes], home: Path) -> None:
    server.terminate()
    server.wait(timeout=20)
    shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    """Find a port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(answers: object, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answers():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False
