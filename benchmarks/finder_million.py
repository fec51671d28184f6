"""A million files in one directory, found at the start: soon at work, with bounded memory."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from benchmarks import take_in
from benchmarks.harness import Bench, main
from buffer.models import File


def run(bench: Bench) -> None:
    """Until the first files are stored; then a whole walk, with everything excluded."""
    ground, count = take_in.Ground(bench), bench.size(1_000_000, 12_000)
    source, storage = ground.begin()
    directory = source / "2026-11-24"
    directory.mkdir()
    for number in range(count):
        descriptor = os.open(directory / f"exposure_{number:07d}.fits", os.O_CREAT | os.O_EXCL)
        os.close(descriptor)
    _forget_peak()
    finder = ground.finder(source, storage)
    begun = time.monotonic()
    finder.cycle(until=begun, stop=lambda: False)
    first = time.monotonic() - begun
    if not File.objects.stored().filter(storage=storage).exists():
        raise RuntimeError("nothing was stored")
    bench.measure(
        f"{count:,} files in a directory: the first are stored after", [first],
        unit="s", at_most=5,
    )  # fmt: skip
    finder.cycle(until=time.monotonic() + (1 if bench.quick else 30), stop=lambda: False)
    # The rest of the walk, which alone may grow with the number of files.
    walker = ground.finder(source, storage, exclude_list=["exposure_00[0-4]"])
    walker.cycle(until=time.monotonic() + (1 if bench.quick else 30), stop=lambda: False)
    bench.measure("the same: peak memory", [_peak_mb()], unit="MB", at_most=200)
    ground.remove(source, storage)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def _peak_mb() -> float:
    """Peak of the resident memory since it was last forgotten."""
    status = Path("/proc/self/status").read_text("ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, flags=re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main(run)
