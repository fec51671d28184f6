"""PostgreSQL servers that tests of faults may hurt: each test has its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.conftest import unavailable
from tests.servers import Postgres
from tests.system.conftest import execute, migrate
from tests.system.product import PASSWORD

MAX_CONNECTIONS = 40
SETTINGS = {"max_connections": MAX_CONNECTIONS, "shared_buffers": "16MB", "max_wal_size": "8MB"}


@pytest.fixture(scope="session")
def prepared() -> Iterator[Path]:
    """The data of a server that has our tables, to be copied."""
    if servers.postgres_program("initdb") is None:
        unavailable("PostgreSQL's programs are not installed")
    server = Postgres(servers.make_postgres_home())
    try:
        server.make_data("--wal-segsize=1", "--no-sync")
        # For `on_a_host_of_its_own`.
        with (server.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.0.0.0/8 trust\n")
        server.start()
        # As operators are told to: a role that owns its database and is no superuser.
        execute(server.url, "CREATE ROLE endpoint LOGIN")
        execute(server.url, "CREATE DATABASE endpoint OWNER endpoint")
        migrate(product_url(server))
        server.stop()
        yield server.data
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(server.home)


@pytest.fixture
def server(prepared: Path) -> Iterator[Postgres]:
    """A server of the test's own."""
    home = servers.make_postgres_home()
    try:
        with running(prepared, home) as server:
            yield server
    finally:
        shutil.rmtree(home)


@contextlib.contextmanager
def on_a_small_volume(prepared: Path) -> Iterator[Postgres]:
    """The same, with all that it writes on a file system of its own."""
    home = servers.make_postgres_home()
    options = f"size=96m,mode=700,uid={home.stat().st_uid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "volume", str(home)], check=True)
    try:
        with running(prepared, home) as server:
            yield server
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)
        home.rmdir()


@contextlib.contextmanager
def on_a_host_of_its_own(prepared: Path) -> Iterator[tuple[Postgres, str]]:
    """The same behind a network cable, as it were; and the name of the host, to pull that out."""
    name = f"ept{uuid.uuid4().hex[:8]}"
    net = f"10.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}"
    home = servers.make_postgres_home()
    user = pwd.getpwnam("postgres")
    try:
        ip(f"netns add {name}")
        ip(f"link add {name} type veth peer name db netns {name}")
        ip(f"address add {net}.1/30 dev {name}")
        ip(f"link set {name} up")
        ip(f"-n {name} address add {net}.2/30 dev db")
        ip(f"-n {name} link set lo up")
        ip(f"-n {name} link set db up")
        inside = f"nsenter --net=/run/netns/{name} --setuid {user.pw_uid} --setgid {user.pw_gid}"
        with running(prepared, home, host=f"{net}.2", within=inside.split()) as server:
            yield server, name
    finally:
        ip(f"netns delete {name}")  # and its end of the cable, and so the other
        shutil.rmtree(home)


def ip(arguments: str) -> None:
    """Run ``ip``."""
    subprocess.run(["ip", *arguments.split()], check=True)


@contextlib.contextmanager
def running(
    prepared: Path, home: Path, host: str = "127.0.0.1", within: list[str] | None = None
) -> Iterator[Postgres]:
    """Run a server on a copy of the data, and end it however it fares."""
    server = Postgres(home, host=host, within=within, **SETTINGS)
    subprocess.run(["cp", "-a", str(prepared), str(server.data)], check=True)
    server.start()
    try:
        yield server
    finally:
        server.go_on()
        server.stop(signal.SIGQUIT)


def product_url(server: Postgres) -> str:
    """Give the URL that the product is configured with."""
    return f"postgresql://endpoint:{PASSWORD}@{server.host}:{server.port}/endpoint"
