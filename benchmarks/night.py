"""A night of LSST, a hundred times as fast: exposures, bursts, and a target that is away.

The real ``runfinder`` (``watch``) and ``runingester`` work on 2,000 exposures of 189 + 16 files
that come every 15 to 37 s. Now and then the link stalls and delivers all at once, and for two hours
in the middle the target does not answer. Nothing may be lost or ingested twice, and the backlog
must be gone within an hour.

What is scaled: the time between exposures, the outage, ``search.delay`` and ``pause``, the target's
11 ms for each file and the pauses between its probes are divided by ``--speed``; a file has 1 kB
instead of some 10 MB; of each exposure only ``--fraction`` of the files come. What is not: the
program, its database, its syncs. A tenth of a second of its work appears as ten seconds.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import heapq
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from django.core.management import call_command
from django.db import connections

from benchmarks import night_report
from benchmarks.harness import DATABASES, TOP, ground
from benchmarks.night_report import Seen
from buffer.models import File
from ingest import probing
from ingest.models import Ingestion
from ingest.statuses import Status

EXPOSURES: Final = 2000
SCIENCE, GUIDERS = 189, 16
#: In simulated seconds: most exposures follow each other at once, before others is a slew.
SHORTEST_S, LONGEST_S, SLEWS = 15.0, 37.0, 0.15
OUTAGE_S: Final = 2 * 3600.0
#: The link stalls this often, for so long.
STALLS, STALL_S = 12, 300.0
TARGET_S: Final = 0.011
CLEARED_WITHIN_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """When what happens, in simulated seconds since the night began."""

    exposures: Sequence[float]
    outage: tuple[float, float]

    @classmethod
    def make(cls, seed: int = 1) -> Plan:
        """Draw a night; the same for the same seed."""
        chance = random.Random(seed)
        moments, now = [], 0.0
        for _ in range(EXPOSURES):
            slews = chance.random() < SLEWS
            now += chance.uniform(SHORTEST_S, LONGEST_S if slews else SHORTEST_S + 2)
            moments.append(now)
        for _ in range(STALLS):
            begin = chance.uniform(0, now - STALL_S)
            moments = [m if not begin < m < begin + STALL_S else begin + STALL_S for m in moments]
        middle = now / 2
        return cls(moments, (middle - OUTAGE_S / 2, middle + OUTAGE_S / 2))


def main() -> None:
    """Simulate, check and draw."""
    if sys.argv[1:2] == ["component"]:
        _component(float(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.night", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--fraction", type=float, default=0.1, help="of the files; default: 0.1")
    parser.add_argument("--speed", type=float, default=100.0, help="default: 100")
    parser.add_argument("--workers", type=int, default=2, help="of the ingester; default: 2")
    parser.add_argument("--database", choices=DATABASES, default="postgresql")
    parser.add_argument("--svg", type=Path, default=TOP / "docs" / "images" / "night.svg")
    options = parser.parse_args()
    with ground(options.database, True) as (url, scratch):
        sys.exit(_night(url, scratch, options))


def _night(url: str, scratch: Path, options: Any) -> int:
    plan, speed = Plan.make(), options.speed
    counts = [max(1, round(n * options.fraction)) for n in (SCIENCE, GUIDERS)]
    total = sum(counts) * EXPOSURES
    source = scratch / "buffer"
    print(f"{total:,} files, {plan.exposures[-1] / speed / 60:.0f} minutes or a little more")
    with _components(url, scratch, options):
        began = time.time()
        arrived = _send(plan, source, scratch, counts, began, speed)
        end = time.monotonic() + 2 * CLEARED_WITHIN_S / speed + 60
        while _ingested() < total and time.monotonic() < end:
            time.sleep(0.2)
    stored, ingested = _times(began, speed)
    taken = collections.Counter((scratch / "list").read_text().split())
    # The mark of the storage area is no file of the night.
    there = sum(1 for _, _, names in os.walk(scratch / "storage") for _ in names) - 1
    seen = Seen(total, arrived, stored, ingested, taken, there, plan.outage)
    title = (
        f"A night of {EXPOSURES:,} exposures ({total:,} files) at {speed:g} times real speed,"
        f" {options.database}"
    )
    night_report.draw(seen, options.svg, title)
    good = night_report.judge(seen, speed, CLEARED_WITHIN_S)
    return 0 if good else 1


def _send(
    plan: Plan, source: Path, scratch: Path, counts: Sequence[int], began: float, speed: float
) -> dict[str, float]:
    """Let files arrive, and the target go away and come back; give the times of the files."""
    down = scratch / "down"
    events = [(moment, number) for number, moment in enumerate(plan.exposures)]
    # The target's going and coming, as numbers that no exposure has.
    heap = list(heapq.merge(events, [(plan.outage[0], -1), (plan.outage[1], -2)]))
    heapq.heapify(heap)
    arrived: dict[str, float] = {}
    late = 0.0
    while heap:
        moment, number = heapq.heappop(heap)
        wait = began + moment / speed - time.time()
        late = max(late, -wait)
        time.sleep(max(0.0, wait))
        if number == -1:
            down.touch()
        elif number == -2:
            down.unlink()
        else:
            directory = source / f"exposure_{number:05d}"
            directory.mkdir()
            for kind, count in zip("sg", counts, strict=True):
                for n in range(count):
                    name = f"{number:05d}_{kind}{n:03d}.fits"
                    # As rsync does.
                    temporary = directory / f".{name}.Xy12zQ"
                    temporary.write_bytes(name.encode().ljust(1000, b"."))
                    temporary.rename(directory / name)
                    arrived[name] = (time.time() - began) * speed
    print(f"files came up to {late * speed:.0f} simulated s later than planned")
    return arrived


@contextlib.contextmanager
def _components(url: str, scratch: Path, options: Any) -> Iterator[None]:
    speed = options.speed
    for name in ("buffer", "storage"):
        (scratch / name).mkdir()
    finder = {
        "source": str(scratch / "buffer"),
        "storage": str(scratch / "storage"),
        "actions": {"standard": "Move", "alternative": "Delete"},
        "search": {"method": "watch", "delay": 2.0 / speed},
        "pause": 1.0 / speed,
    }
    plugin = {
        "list": str(scratch / "list"),
        "down": str(scratch / "down"),
        "seconds": TARGET_S / speed,
    }
    ingester = {
        "plugin": {"name": "benchmarks.night_target.Target", "config": plugin},
        "batch_size": 100,
        "num_threads": options.workers,
    }
    environment = {
        **os.environ,
        "INGEST_PLUGINS": "benchmarks.night_target.Target",
        "PYTHONPATH": str(TOP),
    }
    connections.close_all()
    started = []
    try:
        for command, section in (("finder", finder), ("ingester", ingester)):
            path = scratch / f"{command}.yaml"
            path.write_text(yaml.safe_dump({"database": {"engine": url}, command: section}))
            argv = [sys.executable, "-m", "benchmarks.night", "component", str(speed)]
            argv += [f"run{command}", str(path)]
            log = (scratch / f"{command}.log").open("w")
            started.append(subprocess.Popen(argv, cwd=TOP, env=environment, stderr=log, stdout=log))
        time.sleep(10)
        if not any(process.poll() is not None for process in started):
            yield
        if died := [process.args for process in started if process.poll() is not None]:
            logs = [path.read_text() for path in scratch.glob("*.log")]
            raise RuntimeError("\n".join([f"ended by itself: {died}", *logs]))
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def _component(speed: float, argv: Sequence[str]) -> None:
    """Run a command whose own pauses are as short as the night."""
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S"):
        setattr(probing, name, max(0.05, getattr(probing, name) / speed))
    call_command(*argv)


def _ingested() -> int:
    return Ingestion.objects.filter(status=Status.SUCCESS).count()


def _times(began: float, speed: float) -> tuple[dict[str, float], dict[str, float]]:
    """Give the simulated seconds at which each file was stored and ingested."""
    stored = {
        name: (moment.timestamp() - began) * speed
        for name, moment in File.objects.stored().values_list("filename", "stored_on")
        if moment is not None
    }
    done = Ingestion.objects.filter(status=Status.SUCCESS)
    ingested = {
        name: (moment.timestamp() - began) * speed
        for name, moment in done.values_list("file__filename", "changed_on")
    }
    return stored, ingested


if __name__ == "__main__":
    main()
