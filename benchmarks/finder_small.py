"""Small files, moved within one file system, durably: all is overhead, and all of it shows."""

from __future__ import annotations

from pathlib import Path

from benchmarks import take_in
from benchmarks.harness import Bench, main


def run(bench: Bench) -> None:
    """20,000 files of 1 kB."""
    ground, count = take_in.Ground(bench), bench.size(20_000, 700)

    def fill(source: Path) -> int:
        take_in.arrivals(source, count, 1000)
        return count

    both = bench.compare(
        f"{count:,} x 1 kB, Move",
        lambda: take_in.ours(ground, fill),
        lambda: take_in.ideal(bench, ground, fill),
        unit="files/s",
        at_least=0.4,
    )
    bench.measure("  the same, by itself", both.ours, unit="files/s", at_least=4000)


if __name__ == "__main__":
    main(run)
