"""Ingesting by a plugin that does nothing: what claims, history and the plugin host cost.

Two workers, as ``manage.py runingester`` has them, beside two processes of the ideal loop.
"""

from __future__ import annotations

from benchmarks import ingest_ideal
from benchmarks.harness import Bench, main
from benchmarks.ingest_ground import Ground, together, worker

WORKERS = 2


def run(bench: Bench) -> None:
    """Batches of 500 and of 10."""
    for batch, count, part, enough in (
        (500, bench.size(50_000, 600), 0.4, 3000),
        (10, bench.size(5_000, 60), None, 800),
    ):
        ground = Ground(bench)
        ground.add(count)

        def ours(ground: Ground = ground, batch: int = batch) -> float:
            ingester = ground.ingester()
            seconds = together(worker(ground.run(ingester, batch_size=batch)), WORKERS)
            return ground.check(ingester) / seconds

        def ideal(ground: Ground = ground, batch: int = batch) -> float:
            ingester = ground.ingester()
            loop = ingest_ideal.worker(bench, str(ground.root), ingester.pk, batch)
            seconds = together(loop, WORKERS)
            return ground.check(ingester) / seconds

        what = f"{count:,} files, NullIngest, batches of {batch}, {WORKERS} workers"
        both = bench.compare(what, ours, ideal, unit="files/s", at_least=part)
        bench.measure("  the same, by itself", both.ours, unit="files/s", at_least=enough)


if __name__ == "__main__":
    main(run)
