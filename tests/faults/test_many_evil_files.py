"""A thousand evil files, one after the other: nothing piles up in the command or its worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.crew import pids_of
from tests.ingest import evil_plugins as evil
from tests.system.product import OPEN, Product
from tests.tally import Tally

#: Those that take no time of their own; the last few end with an outcome.
KINDS = [
    evil.segfault,
    evil.os_exit,
    evil.sigkill,
    evil.abort,
    evil.fork_and_die,
    evil.daemon_and_die,
    evil.write_long_line,
    evil.close_everything,
    evil.sys_exit,
    evil.long_exception,
    evil.unprintable_exception,
    evil.yields_junk,
    evil.yields_nothing,
    evil.flood_stderr,
    evil.fork_twice_returning,
    evil.long_message,
]
#: What the process may take more than after the first of each kind: Python keeps some memory.
GROWTH_KB = 10 * 1024


def size(pid: int) -> tuple[int, int]:
    """Give a process's memory (kB) and number of open files."""
    status = Path(f"/proc/{pid}/status").read_text()
    (resident,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident), len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize(
    "count",
    [32, pytest.param(1000, marks=[pytest.mark.full, pytest.mark.timeout(1800)])],
)
def test_nothing_piles_up(product_on_sqlite: Product, tally: Tally, count: int) -> None:
    product = product_on_sqlite
    target, scratch = product.root / "target", product.root / "scratch"
    target.mkdir()
    scratch.mkdir()
    product.environment |= {
        "INGEST_PLUGINS": "tests.ingest.evil_plugins.Mixed",
        "TMPDIR": str(scratch),
    }
    for number in range(count):
        kind = KINDS[number % len(KINDS)].__name__
        product.land(f"night/evil-{kind}-{number:04d}")
    product.run("runfinder", product.finder_yaml(), "--once", within_s=300).succeeded()
    yaml = product.ingester_yaml(
        "tests.ingest.evil_plugins.Mixed", {"target": str(target)}, num_threads=1, batch_size=20
    )
    command = product.start("runingester", yaml)

    def ended() -> int:
        return sum(n for status, n in product.statuses().items() if status not in OPEN)

    warm = count // 2 if count < 100 else 200
    product.wait(lambda: ended() >= warm, "the first are through", 600)
    everybody = [command.process.pid, *pids_of(command, "sentinel"), *pids_of(command, "worker")]
    before = [size(pid) for pid in everybody]
    product.wait(lambda: ended() == count, "all are through", 1500)
    after = [size(pid) for pid in everybody]  # fails if one of them was replaced meanwhile

    good = sum(KINDS[n % len(KINDS)] in evil.HARMLESS for n in range(count))
    statuses = product.statuses()
    assert statuses["SUCCESS"] == good
    assert statuses["SUCCESS"] + statuses["FAILURE"] + statuses["UNKNOWN"] == count
    assert product.value("SELECT max(attempts) FROM ingest_ingestion") == 1
    for (memory, files), (memory_then, files_then) in zip(after, before, strict=True):
        assert memory <= memory_then + GROWTH_KB, (before, after)
        assert files <= files_then + 3, (before, after)
    # The command, its sentinel, pusher, monitor and worker, and the host.
    assert len(product.left_over()) <= 6
    command.stops()
    assert product.left_over() == []
    assert not list(scratch.iterdir()), "temporary files are left"
    growth = max(now[0] - then[0] for now, then in zip(after, before, strict=True))
    tally("evil files, one after the other", count, 0.0, f"memory grew by {growth} kB")
