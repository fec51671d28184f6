"""A cycle with nothing to do, while the buffer is full of what cannot be taken in."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks import take_in
from benchmarks.harness import Bench, main, timed


def run(bench: Bench) -> None:
    """100,000 files that are refused, and 100,000 that are excluded."""
    _compare(bench, "refused", "\x01", [])  # control characters are
    _compare(bench, "excluded", ".log", [r"\.log$"])


def _compare(bench: Bench, kind: str, ending: str, exclude_list: list[str]) -> None:
    ground, count = take_in.Ground(bench), bench.size(100_000, 500)
    source, storage = ground.begin()
    for number in range(count):
        if number % take_in.PER_DIRECTORY == 0:
            directory = source / f"{number // take_in.PER_DIRECTORY:04d}"
            directory.mkdir()
        (directory / f"exposure_{number:07d}{ending}").touch()
    finder = ground.finder(source, storage, exclude_list=exclude_list)

    def cycle() -> float:
        with timed() as seconds:
            finder.cycle(until=time.monotonic() + 3600, stop=lambda: False)
        return seconds()

    def walk() -> float:
        with timed() as seconds:
            _walk(source)
        return seconds()

    # The first cycle, which refuses them all, is another matter.
    bench.measure(f"first cycle, {count:,} files {kind}", [cycle()], unit="s")
    bench.compare(
        f"idle cycle, {count:,} files {kind}; ideal: scandir and stat",
        cycle, walk, unit="s", at_most=2,
    )  # fmt: skip
    before = take_in.bytes_read()
    cycle()
    bench.measure(
        f"read in an idle cycle, {count:,} files {kind}",
        [take_in.bytes_read() - before], unit="bytes", at_most=100_000,
    )  # fmt: skip
    ground.remove(source, storage)


def _walk(source: Path) -> int:
    """Do the bare work of a walk."""
    number = 0
    for directory in os.listdir(source):
        with os.scandir(source / directory) as listing:
            for entry in listing:
                entry.stat(follow_symlinks=False)
                number += 1
    return number


if __name__ == "__main__":
    main(run)
