"""Ingesting raws into a real Butler repository: batches against single files, two workers and one.

Each turn has a repository of its own, made before the clock runs; one file for each exposure.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.harness import Bench, main
from benchmarks.ingest_ground import Ground, together, worker
from fixtures.fits_samples import HSC_EXPOSURE, write_hsc
from ingest.butler.repository import make_repository


def run(bench: Bench) -> None:
    """100 files as a batch and as 100 batches; then by two workers."""
    count = bench.size(100, 2)
    rounds = bench.size(3, 1)
    few, many = Ground(bench), Ground(bench)
    few.add(count, _write)
    many.add(8 * count, _write)
    empty = Path(make_repository(bench.directory("template") / "repository"))

    def ingest(ground: Ground, batch: int, workers: int = 1) -> float:
        repository = Path(shutil.copytree(empty, bench.directory("butler") / "repository"))
        config = {"butler": {"root": str(repository)}}
        ingester = ground.ingester()
        run = ground.run(ingester, "Gen3Ingest", batch_size=batch, config=config)
        seconds = together(worker(run), workers)
        shutil.rmtree(repository)
        return ground.check(ingester) / seconds

    bench.compare(
        f"Gen3Ingest, {count} files: a batch / batches of 1",
        lambda: ingest(few, count), lambda: ingest(few, 1), unit="files/s", at_least=2.3,
        rounds=rounds,
    )  # fmt: skip
    bench.compare(
        f"Gen3Ingest, {8 * count} files: 2 workers / 1 worker",
        lambda: ingest(many, 50, workers=2), lambda: ingest(many, 50), unit="files/s",
        at_least=1.7, rounds=rounds,
    )  # fmt: skip


def _write(path: Path, number: int) -> None:
    write_hsc(path, exposure=HSC_EXPOSURE + 2 * number, seed=number)


if __name__ == "__main__":
    main(run)
