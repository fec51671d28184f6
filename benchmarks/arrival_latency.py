"""From a file that has settled to its place in storage, on a quiet system: `watch` and `scan`.

A real ``manage.py runfinder``; files come one at a time. The clock starts when a file's quiet time
is over (its mtime and ``search.delay``), and stops when it is gone from the buffer, which happens
after it was stored durably and that was committed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml
from django.db import connections

from benchmarks.harness import TOP, Bench, main
from buffer.models import File

DELAY_S: Final = 0.5
PAUSE_S: Final = 1.0
_PATIENCE_S: Final = 60.0


def run(bench: Bench) -> None:
    """40 files of 1 kB each."""
    count = bench.size(40, 3)
    for method, most_ms in (("watch", 100.0), ("scan", 1000 * PAUSE_S + 200)):
        source, storage = bench.directory("buffer"), bench.directory("storage")
        with _finder(bench, source, storage, method):
            latencies = [_latency_ms(source, number) for number in range(count)]
        bench.measure(
            f"settled to stored, {method} (pause {PAUSE_S:g} s)",
            latencies,
            unit="ms",
            at_most=most_ms,
        )


@contextmanager
def _finder(bench: Bench, source: Path, storage: Path, method: str) -> Iterator[None]:
    section = {
        "source": str(source),
        "storage": str(storage),
        "actions": {"standard": "Move", "alternative": "Delete"},
        "search": {"method": method, "delay": DELAY_S},
        "pause": PAUSE_S,
    }
    config = source.with_suffix(".yaml")
    names = {"file": {"table": storage.name.replace("-", "_")}}
    config.write_text(yaml.safe_dump({"database": {"tablenames": names}, "finder": section}))
    environment = {**os.environ, "DATABASE_URL": bench.url}
    command = [sys.executable, "manage.py", "runfinder", str(config)]
    connections.close_all()
    process = subprocess.Popen(command, cwd=TOP, env=environment, stdout=subprocess.DEVNULL)
    try:
        # It is at work once it has taken one in.
        _latency_ms(source, -1)
        yield
    finally:
        process.terminate()
        process.wait()
    if not File.objects.exists():
        raise RuntimeError("nothing was stored")


def _latency_ms(source: Path, number: int) -> float:
    # At any moment of the finder's pause.
    time.sleep(random.uniform(0, PAUSE_S))
    path = source / f"exposure_{number:04d}.fits"
    path.write_bytes(os.urandom(1000))
    settled = path.stat().st_mtime + DELAY_S
    give_up = settled + _PATIENCE_S
    while path.exists():
        if time.time() > give_up:
            raise RuntimeError(f"{path} is still there after {_PATIENCE_S:.0f} s")
        time.sleep(0.001)
    return 1000 * (time.time() - settled)


if __name__ == "__main__":
    main(run)
