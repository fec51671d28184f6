"""What each process of an ingester holds in memory, and whether it grows with the files."""

from __future__ import annotations

from benchmarks.commands import ingester_yaml, memory_mb, running, wait
from benchmarks.harness import Bench, main
from benchmarks.ingest_ground import Ground
from ingest.models import Ingestion
from ingest.statuses import Status


def run(bench: Bench) -> None:
    """One command with 2 workers; looked at after a tenth of the files, and after all."""
    ground, count = Ground(bench), bench.size(200_000, 300)
    ground.add(count)
    path = ingester_yaml(bench, ground, "memory", num_threads=2, batch_size=500)
    done = Ingestion.objects.filter(status=Status.SUCCESS)
    with running(bench, "runingester", path) as pid:
        wait(lambda: done.count() >= count // 10, "a tenth of the files is ingested", 3600)
        early = max(memory_mb(pid))
        wait(lambda: done.count() == count, "all files are ingested", 3600)
        late = max(memory_mb(pid))
    bench.measure(f"largest process, {count:,} files", [late], unit="MB", at_most=120)
    bench.measure("  of that, since a tenth of them", [late - early], unit="MB", at_most=5)


if __name__ == "__main__":
    main(run)
