"""The program's commands as processes, and what they hold in memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import TOP, Bench
from benchmarks.ingest_ground import Ground
from buffer import processes


def ingester_yaml(
    bench: Bench, ground: Ground, name: str, plugin: str = "NullIngest", **section: Any
) -> Path:
    """Write an ingester's file."""
    path = bench.directory("config") / f"{name}.yaml"
    content = {
        "database": {
            "engine": bench.url.replace("postgresql:", "postgres:"),
            "tablenames": {"file": {"table": ground.storage.name}, "event": {"table": name}},
        },
        "ingester": {"plugin": {"name": plugin, "config": section.pop("config", {})}, **section},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@contextlib.contextmanager
def running(bench: Bench, *arguments: str | Path, **environment: str) -> Iterator[int]:
    """Run a command, and stop it afterwards; gives its process id."""
    inherited = {key: value for key, value in os.environ.items() if key != "Q_BROKER_URL"}
    mine = {"DATABASE_URL": bench.url, "ENDPOINT_DATA_DIR": str(bench.scratch)}
    command = subprocess.Popen(
        [sys.executable, "manage.py", *map(str, arguments)],
        cwd=TOP, env={**inherited, **mine, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL if bench.quick else None,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield command.pid
    finally:
        command.terminate()
        try:
            command.wait(60)
        except subprocess.TimeoutExpired:
            processes.kill_family(command.pid)
            command.kill()
            command.wait()


def wait(
    condition: Callable[[], object], what: str, within_s: float = 300.0, every_s: float = 0.02
) -> None:
    """Wait until something is so; to look takes its share of what is measured."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(f"not within {within_s:.0f} s: {what}")
        time.sleep(every_s)


def memory_mb(pid: int) -> list[float]:
    """Give what a command and each process below it holds in memory (resident), in MB."""
    found = []
    for one in (pid, *(process.pid for process in processes.descendants(pid))):
        with contextlib.suppress(OSError):
            pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
            found.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return found
