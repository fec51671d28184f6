"""Large files, moved within one file system: all is reading and hashing, each byte once."""

from __future__ import annotations

from pathlib import Path

from benchmarks import take_in
from benchmarks.harness import Bench, main


def run(bench: Bench) -> None:
    """200 files of 8 MiB."""
    ground, count, size = take_in.Ground(bench), bench.size(200, 10), bench.size(8 << 20, 100_000)

    def fill(source: Path) -> int:
        take_in.arrivals(source, count, size)
        return count

    bench.compare(
        f"{count:,} x {size / (1 << 20):.3g} MiB, Move",
        lambda: take_in.ours(ground, fill),
        lambda: take_in.ideal(bench, ground, fill),
        unit="files/s",
        at_least=0.8,
        rounds=None if bench.quick else 3,
    )
    take_in.measure_reading(bench, ground, fill, count * size)


if __name__ == "__main__":
    main(run)
