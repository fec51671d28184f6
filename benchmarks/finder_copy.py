"""Large files from another file system: as ``cp`` followed by a sync, and hashed on the way.

The buffer is in BENCH_OTHER_FS (default: /dev/shm), the storage on the disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import take_in
from benchmarks.harness import Bench, main, timed


def run(bench: Bench) -> None:
    """100 files of 8 MiB, against ``cp`` and ``sync`` of as many."""
    other = Path(os.environ.get("BENCH_OTHER_FS", "/dev/shm"))
    if other.stat().st_dev == bench.scratch.stat().st_dev:
        sys.exit(f"{other} is no other file system than {bench.scratch}: set BENCH_OTHER_FS")
    count, size = bench.size(100, 10), bench.size(8 << 20, 100_000)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=other) as buffers:
        ground = take_in.Ground(bench, buffers=Path(buffers))

        def fill(source: Path) -> int:
            take_in.arrivals(source, count, size)
            return count

        def cp() -> float:
            source, storage = ground.begin()
            fill(source)
            with timed() as seconds:
                subprocess.run(["cp", "-r", f"{source}/.", storage.root], check=True)
                subprocess.run(["sync", "-f", storage.root], check=True)
            ground.remove(source, storage)
            return count / seconds()

        bench.compare(
            f"{count:,} x {size / (1 << 20):.3g} MiB, copied; ideal: cp and sync",
            lambda: take_in.ours(ground, fill),
            cp,
            unit="files/s",
            at_least=0.8,
            rounds=None if bench.quick else 3,
        )
        take_in.measure_reading(bench, ground, fill, count * size)


if __name__ == "__main__":
    main(run)
