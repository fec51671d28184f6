"""Whether n workers do n times the work of one, with a plugin that sleeps 50 ms for each file.

The rate is that of the middle half of the outcomes, by the database's clock, so that neither the
start of workers nor the last batch, which not all of them have, counts. Linear is what sleeping
alone allows.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta

from benchmarks.commands import ingester_yaml, running, wait
from benchmarks.harness import Bench, main
from benchmarks.ingest_ground import Ground
from benchmarks.sleepy import SLEEP_S, Sleepy
from ingest.models import Ingester, Ingestion
from tests import servers

_PLUGIN = f"{Sleepy.__module__}.{Sleepy.__qualname__}"
_SECONDS = 20


def run(bench: Bench) -> None:
    """1 to 64 workers of one command; then 16 and 64 as two hosts, by each broker."""
    alone = {1: 0.9} if bench.quick else {1: 0.9, 4: 0.9, 16: 0.9, 64: 0.8}
    for workers, enough in alone.items():
        _measure(bench, workers, enough, f"{workers} workers")
    redis = servers.redis_url()
    on_two_hosts = {2: 0.9} if bench.quick else {16: 0.9, 64: 0.8}
    for workers, enough in on_two_hosts.items():
        what = f"{workers} workers on two hosts"
        _measure(bench, workers, enough, f"{what}, ORM broker", hosts=2)
        if redis is not None:
            _measure(bench, workers, enough, f"{what}, Redis broker", hosts=2, Q_BROKER_URL=redis)


def _measure(
    bench: Bench, workers: int, enough: float, what: str, hosts: int = 0, **environment: str
) -> None:
    ground = Ground(bench)
    # To start many takes a second of a core each, and they begin one after another: what they do
    # meanwhile is about the first quarter.
    ground.add(workers * bench.size(int(max(_SECONDS, workers) / SLEEP_S), 4))
    name = f"target_of_{ground.storage.name}"
    path = ingester_yaml(bench, ground, name, _PLUGIN, num_threads=workers)
    environment["INGEST_PLUGINS"] = _PLUGIN
    with contextlib.ExitStack() as stack:
        arguments = ["--external-workers"] if hosts else []
        stack.enter_context(running(bench, "runingester", path, *arguments, **environment))
        for _ in range(hosts):
            share = str(workers // hosts)
            stack.enter_context(running(bench, "runworkers", "--workers", share, **environment))
        wait(lambda: ground.is_done(name), "all are ingested", every_s=0.5)
    files = ground.check(Ingester.objects.get(name=name))
    rows = Ingestion.objects.filter(ingester__name=name).order_by("changed_on")
    moments = list(rows.values_list("changed_on", flat=True))
    first, last = moments[files // 4], moments[3 * files // 4 - 1]
    rate = (files // 2) / max((last - first) / timedelta(seconds=1), SLEEP_S)
    bench.measure(
        f"{what}, part of linear", [rate * SLEEP_S / workers], unit="", at_least=enough
    )  # fmt: skip


if __name__ == "__main__":
    main(run)
