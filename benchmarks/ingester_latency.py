"""From stored to ingested on a quiet system: the command runs, the plugin does nothing."""

from __future__ import annotations

import time

from benchmarks.commands import ingester_yaml, running, wait
from benchmarks.harness import Bench, main
from benchmarks.ingest_ground import Ground
from buffer.models import File
from ingest.models import Ingestion
from ingest.statuses import Status


def run(bench: Bench) -> None:
    """Store one file after another, each when the system is quiet again."""
    ground = Ground(bench)
    ground.add(1)
    path = ingester_yaml(bench, ground, "latency", num_threads=2)
    done = Ingestion.objects.filter(status=Status.SUCCESS)
    values = []
    with running(bench, "runingester", path):
        wait(lambda: done.exists(), "the ingester is at work")
        for number in range(bench.size(40, 2)):
            time.sleep(0.37)  # no multiple of anything that the program waits for
            values.append(1000 * _one(ground, number))
    bench.measure(
        "stored to ingested, NullIngest, 2 workers", values, unit="ms", at_most=300
    )  # fmt: skip


def _one(ground: Ground, number: int) -> float:
    file = File.objects.get(filename="000000000.fits")
    (ground.root / file.relpath / f"late-{number}.fits").write_bytes(b"x")
    file.pk, file.filename = None, f"late-{number}.fits"
    file.save()
    begun = time.perf_counter()
    rows = Ingestion.objects.filter(file=file, status=Status.SUCCESS)
    while not rows.exists():
        if time.perf_counter() - begun > 60:
            raise RuntimeError("not ingested")
        time.sleep(0.002)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main(run)
