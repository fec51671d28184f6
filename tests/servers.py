"""Servers for the tests: those named by the environment, else local ones, else our own.

PostgreSQL: ``TEST_POSTGRES_URL``, else 127.0.0.1:5432 as user postgres, else a server started from
installed binaries in a temporary directory. Redis likewise (``TEST_REDIS_URL``, port 6379).
"""

from __future__ import annotations

import atexit
import glob
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg2
import redis

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
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    initdb = shutil.which("initdb") or (found[-1] if found else None)
    if initdb is None:
        return None
    postgres = str(Path(initdb).with_name("postgres"))
    home = Path(tempfile.mkdtemp(prefix="endpoint-postgres-"))
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(home, user)
    data, port = home / "data", _free_port()
    subprocess.run(
        [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"],
        check=True, user=user, cwd=home, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    server = subprocess.Popen(
        [postgres, "-D", str(data), "-p", str(port), "-k", str(home), "-h", "127.0.0.1",
         "-c", "fsync=off"],
        user=user, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    atexit.register(_stop, server, home)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    return url if _wait(lambda: _postgres_answers(url)) else None


def _start_redis() -> str | None:
    binary = shutil.which("redis-server")
    if binary is None:
        return None
    home = Path(tempfile.mkdtemp(prefix="endpoint-redis-"))
    port = _free_port()
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


def _free_port() -> int:
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
