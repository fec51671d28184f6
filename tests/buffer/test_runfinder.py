"""`manage.py runfinder` as operators run it: a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection

from buffer import operator_pauses
from buffer.models import Component, ComponentKind, File, Refusal, Storage
from buffer.operator_pauses import Pausable

ROOT = Path(__file__).resolve().parents[2]


class Command:
    """A finder's YAML file, and processes that are started with it."""

    def __init__(self, tmp_path: Path, url: str) -> None:
        self.source, self.root = tmp_path / "in", tmp_path / "store"
        self.source.mkdir()
        self.root.mkdir()
        self.path = tmp_path / "finder.yaml"
        self.environment = {
            **os.environ,
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "endpoint_site.settings",
        }
        self.started: list[subprocess.Popen[str]] = []
        self.write()

    def write(self, **finder: Any) -> None:
        section = {
            "source": str(self.source),
            "storage": str(self.root),
            "actions": {"standard": "Move", "alternative": "Delete"},
            "search": {"method": "scan", "delay": 0.1},
            "pause": 0.1,
            **finder,
        }
        self.path.write_text(yaml.safe_dump({"finder": section}))

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runfinder", str(self.path), *options],
            cwd=ROOT,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *options: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*options, **environment)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err, err
        return process.returncode, out, err

    def fill(self, count: int) -> None:
        for n in range(count):
            path = self.source / f"2026/{n % 3}/exposure_{n}.fits"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"%d" % n)


@pytest.fixture
def command(database_url: str, tmp_path: Path) -> Iterator[Command]:
    made = Command(tmp_path, database_url)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    connection.close()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def test_once(command: Command) -> None:
    command.fill(50)
    (command.source / "link").symlink_to("/etc/passwd")
    status, out, err = command.run("--once")
    assert (status, err.count("NOT_REGULAR link")) == (0, 1)
    assert out.startswith("finder stopped: 50 stored, 0 duplicates, 1 refused")
    assert File.objects.stored().count() == 50
    assert not File.objects.unreleased().exists()
    assert Refusal.objects.get().path == "link"
    run = Component.objects.get()
    assert run.stopped_on is not None and run.subject == str(command.source)
    assert sum(run.measures["take_in"]["counts"]) == 50
    assert abs(run.measures["stored_at"] - time.time()) < 60
    assert run.canary_s is not None and run.canary_s < 5
    status, out, _ = command.run("--once")
    assert (status, out) == (
        0,
        "finder stopped: 0 stored, 0 duplicates, 0 refused, 0 recovered, 0 waiting\n",
    )


def test_stops_within_seconds_and_another_may_not_start(command: Command) -> None:
    command.fill(3)
    process = command.start()
    until(lambda: File.objects.stored().count() == 3)
    status, _, err = command.run("--once")
    assert status == 1
    assert "another finder is at work on" in err
    command.fill(5)  # the first three are duplicates by now
    until(lambda: File.objects.stored().count() == 5)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert time.monotonic() - began < 8
    assert out.startswith("finder stopped: 5 stored, 3 duplicates")


def test_a_finder_of_another_host_with_the_same_path(command: Command) -> None:
    """Their records could not be told apart."""
    command.run("--once")
    row = Component.objects.get(kind=ComponentKind.FINDER)
    Component.objects.create(
        kind=ComponentKind.FINDER, subject=row.subject, host="elsewhere", pid=1,
        settings=row.settings,
    )  # fmt: skip
    status, _, err = command.run("--once")
    assert status == 1 and "a finder on host elsewhere takes files" in err
    Component.objects.filter(host="elsewhere").update(settings={"storage": 0})
    assert command.run("--once")[0] == 0


def test_the_kernel_wakes_it(command: Command) -> None:
    """Long before its pause is over, and while its worker rests between looks."""
    command.write(search={"method": "watch", "delay": 0.1}, pause=60)
    process = command.start()
    command.fill(1)
    until(lambda: File.objects.stored().count() == 1)
    for n in range(2, 5):
        command.fill(n)
        until(lambda n=n: File.objects.stored().count() == n, 15)  # type: ignore[misc]
    run = Component.objects.get(kind="finder")
    assert run.counters["scans"] <= 2, "full scans are for the start, and the safety net"
    process.send_signal(signal.SIGTERM)
    assert "4 stored" in process.communicate(timeout=20)[0]


def test_killed_and_started_again(command: Command) -> None:
    command.fill(400)
    process = command.start()
    until(lambda: File.objects.exists())
    process.kill()
    process.communicate()
    status = 1
    end = time.monotonic() + 20
    while status and time.monotonic() < end:
        # Its worker has the lock until it notices that it is alone.
        status, _, err = command.run("--once")
    assert status == 0, err
    assert File.objects.stored().count() == 400
    assert not [path for path in command.source.rglob("*") if path.is_file()]


def test_dry_run_changes_nothing(command: Command) -> None:
    command.fill(3)
    time.sleep(0.2)
    status, out, _ = command.run("--dry-run")
    assert status == 0
    assert out.splitlines()[0] == "would be stored\t2026/0/exposure_0.fits"
    assert len(out.splitlines()) == 3
    assert list(command.root.iterdir()) == []
    assert not Storage.objects.exists() and not Component.objects.exists()


def test_storage_that_is_not_mounted(command: Command) -> None:
    assert command.run("--once")[0] == 0
    (command.root / ".endpoint-storage").unlink()
    command.fill(1)
    status, _, err = command.run("--once")
    assert status == 1
    assert "is its file system mounted" in err
    assert (command.source / "2026/0/exposure_0.fits").exists()


def test_unusable_directories(command: Command) -> None:
    command.write(storage=str(command.root / "gone"))
    status, _, err = command.run("--once")
    assert (status, "finder.storage: there is no directory" in err) == (2, True)
    command.write(storage=str(command.source))
    status, _, err = command.run("--once")
    assert (status, "Move needs a source that is not the storage" in err) == (2, True)


def test_storage_of_another_database(command: Command) -> None:
    (command.root / ".endpoint-storage").write_text("00000000-0000-4000-8000-000000000000\n")
    status, _, err = command.run("--once")
    assert (status, "marked as another storage area" in err) == (2, True)
    assert not Storage.objects.exists()


def test_unmigrated_database(command: Command, tmp_path: Path) -> None:
    status, _, err = command.run("--once", DATABASE_URL=f"sqlite:///{tmp_path}/new.sqlite3")
    assert (status, "manage.py migrate" in err) == (2, True)


def test_bad_usage(command: Command) -> None:
    assert command.run("--often")[0] == 2


def test_a_person_pauses_it(command: Command) -> None:
    command.fill(1)
    command.start()
    until(lambda: File.objects.stored().count() == 1)
    what = Pausable.of(Component.objects.get())
    assert what is not None
    operator_pauses.pause(what, user="ann", note="new disk")
    until(lambda: Component.objects.get().message.endswith("new disk"), 5)
    command.fill(4)  # the first is a duplicate by now
    time.sleep(1.0)
    assert File.objects.count() == 1
    assert len(list(command.source.rglob("*.fits"))) == 4
    operator_pauses.resume(what, user="bob")
    until(lambda: File.objects.stored().count() == 4, 5)
    until(lambda: not Component.objects.get().message, 10)


def test_a_run_that_is_to_end_says_that_it_is_paused(command: Command) -> None:
    command.fill(1)
    what = Pausable(ComponentKind.FINDER, str(command.source), socket.gethostname())
    operator_pauses.pause(what, user="ann", note="new disk")
    status, _, err = command.run("--once")
    assert status == 1
    assert "paused by ann since" in err and "new disk" in err
    assert not File.objects.exists()
