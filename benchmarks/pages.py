"""How long the admin's pages keep the database busy, with 10 million files and 30 million events.

    .venv/bin/python -m benchmarks.pages

makes the database ``endpoint_10000000`` on the PostgreSQL server at 127.0.0.1:5432 if it is not
there (some 15 minutes and 20 GB), opens each page several times, and prints the time of its
queries: the first time, the median of the following, and the limit. On a machine that is busy with
other things, time says little: ``cpu`` is what the server's process computed meanwhile, and with
``--cpu`` that is judged. It exits with status 1 if a median is over its limit. The figures by the
hour are those of the day before the database was made: make it anew (``--anew``) when it is older.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils.http import urlencode

from benchmarks import filling
from buffer.database import use
from buffer.models import File, Refusal
from buffer.sections import Database
from ingest.models import Ingestion

#: Milliseconds of the database, at most.
FRONT_PAGE_MS: Final = 500
LIST_MS: Final = 300
RUNS: Final = 5


@dataclass(frozen=True, slots=True)
class Measured:
    """What a page cost: number of queries, and milliseconds of the database."""

    page: str
    url: str
    queries: int
    first_ms: float
    median_ms: float
    worst_ms: float
    cpu_ms: float
    limit_ms: float

    def passed(self, *, cpu: bool) -> bool:
        """Tell whether it kept to the limit."""
        return (self.cpu_ms if cpu else self.median_ms) <= self.limit_ms


class Clock:
    """Adds up the time of queries, the reading of their rows included."""

    def __init__(self) -> None:
        self.queries, self.seconds = 0, 0.0

    def __call__(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            self.queries += 1
            self.seconds += time.perf_counter() - began


def computed_ms() -> float:
    """Tell for how long the server's process of this connection has computed; 0 if it is remote."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0]) / 1e6
    except (OSError, ValueError):
        return 0.0


def pages(files: int) -> Iterator[tuple[str, str, float]]:
    """Name the pages to be measured, with their address and limit."""
    yield "front page", reverse("admin:index"), FRONT_PAGE_MS
    old, middle, new = (File.objects.get(pk=max(1, files * n // 100)) for n in (1, 50, 99))
    rare = "translator of <file> says 7"
    frequent = "no master flat for <id> in collection <path>"
    lists: tuple[tuple[str, str, dict[str, dict[str, Any]]], ...] = (
        ("files", "buffer_file", {
            "": {},
            "page 100": {"p": 100},
            "stored": {"stage": "stored"},
            "being taken in": {"stage": "intent"},
            "suspect": {"suspect": "any"},
            "last hour": {"since": "hour"},
            "last month": {"since": "month"},
            "day, old": {"day": f"{old.added_on:%Y-%m-%d}"},
            "day, middle": {"day": f"{middle.added_on:%Y-%m-%d}"},
            "directory": {"directory": middle.relpath},
            "directory of a day, old": {"directory": old.relpath[:8]},
            "directory of a day, middle": {"directory": middle.relpath[:8]},
            "size, frequent": {"size": "10M"},
            "size, none": {"size": "0"},
            "size, none, of a day": {"size": "1G", "day": f"{old.added_on:%Y-%m-%d}"},
            "storage": {"storage__id__exact": 2},
            "status SUCCESS": {"status": "SUCCESS"},
            "status UNKNOWN": {"status": "UNKNOWN"},
            "status INVALID": {"status": "INVALID"},
            "status PENDING": {"status": "PENDING"},
            "day, middle, status INVALID": {
                "day": f"{middle.added_on:%Y-%m-%d}", "status": "INVALID"},
            "day, old, status FAILURE": {
                "day": f"{old.added_on:%Y-%m-%d}", "status": "FAILURE"},
            "directory, status FAILURE": {"directory": middle.relpath, "status": "FAILURE"},
            "search: name": {"q": middle.filename},
            "search: beginning of a name": {"q": middle.filename[:10]},
            "search: short beginning": {"q": "exp"},
            "search: path": {"q": str(middle.path)},
            "search: directory": {"q": middle.relpath},
            "search: checksum": {"q": middle.checksum},
            "search: nothing": {"q": "nosuchfile"},
        }),
        ("ingestions", "ingest_ingestion", {
            "": {},
            "page 100": {"p": 100},
            "ingester": {"ingester__id__exact": 2},
            **{f"status {s}": {"status__exact": s} for s in (
                "SUCCESS", "FAILURE", "UNKNOWN", "INVALID", "IGNORED", "UNTRIED", "PENDING",
                "RERUN", "BACKFILL")},
            **{f"ingester, status {s}": {"ingester__id__exact": 2, "status__exact": s} for s in (
                "SUCCESS", "FAILURE", "INVALID", "PENDING", "RERUN")},
            "cause, frequent": {"cause": frequent},
            "cause, rare": {"cause": rare},
            "ingester, status, cause": {
                "ingester__id__exact": 1, "status__exact": "FAILURE", "cause": frequent},
            "day, old, cause": {"day": f"{old.added_on:%Y-%m-%d}", "cause": rare},
            "day, middle, ingester, INVALID": {
                "day": f"{middle.added_on:%Y-%m-%d}", "ingester__id__exact": 1,
                "status__exact": "INVALID"},
            "held": {"held": "yes"},
            "day, old": {"day": f"{old.added_on:%Y-%m-%d}"},
            "day, middle, FAILURE": {
                "day": f"{middle.added_on:%Y-%m-%d}", "status__exact": "FAILURE"},
            "directory": {"directory": middle.relpath},
            "directory of a day, middle": {"directory": middle.relpath[:8]},
            "search: name": {"q": middle.filename},
            "search: beginning of a name": {"q": middle.filename[:10]},
            "search: checksum": {"q": middle.checksum},
        }),
        ("events", "ingest_fileevent", {
            "": {},
            "page 100": {"p": 100},
            "ingester": {"ingester__id__exact": 2},
            **{f"status {s}": {"status__exact": s} for s in (
                "SUCCESS", "FAILURE", "UNKNOWN", "INVALID", "IGNORED", "RERUN", "BACKFILL")},
            "ingester, SUCCESS, last hour": {
                "ingester__id__exact": 1, "status__exact": "SUCCESS", "since": "hour"},
            "FAILURE, last day": {"status__exact": "FAILURE", "since": "day"},
            "INVALID, last month": {"status__exact": "INVALID", "since": "month"},
            "day, old": {"day": f"{old.added_on:%Y-%m-%d}"},
            "day, middle, FAILURE": {
                "day": f"{middle.added_on:%Y-%m-%d}", "status__exact": "FAILURE"},
            "directory": {"directory": middle.relpath},
            "directory of a day, middle": {"directory": middle.relpath[:8]},
            "search: name": {"q": middle.filename},
            "search: beginning of a name": {"q": new.filename[:10]},
            "search: checksum": {"q": middle.checksum},
        }),
        ("refusals", "buffer_refusal", {
            "": {},
            "standing": {"state": "open"},
            "standing, CONFLICT": {"state": "open", "reason__exact": "CONFLICT"},
            "reason, none": {"reason__exact": "EIO"},
            "day": {"day": f"{Refusal.objects.earliest('id').last_seen:%Y-%m-%d}"},
            "search: beginning": {"q": "night7/exp7123"},
            "search: end": {"q": "exp123456.fits"},
            "search: checksum": {"q": Refusal.objects.earliest("id").checksum},
        }),
        ("suspicions", "buffer_suspicion", {"": {}, "standing": {"state": "standing"}}),
        ("components", "buffer_component", {"": {}}),
    )  # fmt: skip
    for name, app, queries in lists:
        for words, query in queries.items():
            yield f"{name}: {words or 'all'}", _url(f"admin:{app}_changelist", query), LIST_MS
    row = Ingestion.objects.get(file=middle)
    yield "a file", reverse("admin:buffer_file_change", args=[middle.pk]), LIST_MS
    yield "an ingestion", reverse("admin:ingest_ingestion_change", args=[row.pk]), LIST_MS


def _url(view: str, query: dict[str, Any]) -> str:
    return f"{reverse(view)}?{urlencode(query)}"


def measure(files: int, only: str) -> Iterator[Measured]:
    """Open each page as an administrator, several times."""
    users = get_user_model()._default_manager
    user = users.filter(username="benchmark").first() or users.create_superuser("benchmark")
    client = Client(SERVER_NAME="localhost")
    client.force_login(user)
    for name, url, limit in pages(files):
        if only not in name:
            continue
        times, computed = [], []
        for _ in range(1 + RUNS):
            clock, before = Clock(), computed_ms()
            with connection.execute_wrapper(clock):
                response = client.get(url)
            if response.status_code != 200:
                raise SystemExit(f"{name}: {url} answers {response.status_code}")
            times.append(clock.seconds * 1000)
            computed.append(computed_ms() - before)
        first, *others = times
        yield Measured(
            page=name,
            url=url,
            queries=clock.queries,
            first_ms=first,
            median_ms=statistics.median(others),
            worst_ms=max(others),
            cpu_ms=statistics.median(computed[1:]),
            limit_ms=limit,
        )


def main() -> int:
    """Measure, print, and say whether all is within the limits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000_000)
    parser.add_argument("--server", default="postgresql://postgres@127.0.0.1:5432")
    parser.add_argument("--database", help="its name; endpoint_FILES if not given")
    parser.add_argument("--anew", action="store_true", help="make the database anew")
    parser.add_argument("--only", default="", help="pages with this text in their name")
    parser.add_argument("--cpu", action="store_true", help="judge by the time of the processor")
    parser.add_argument("--json", help="write the figures to this file, too")
    options = parser.parse_args()
    name = options.database or f"endpoint_{options.files}"
    url = f"{options.server}/{name}"
    is_new = filling.ensure_database(url, anew=options.anew)
    use(Database.model_validate({"engine": url}))
    if is_new:
        filling.fill(options.files)
    heads = f"{'first':>8} {'median':>8} {'worst':>8} {'cpu':>7} {'limit':>6}"
    print(f"{'page':44} {'queries':>7} {heads}  ms")
    figures = []
    for one in measure(options.files, options.only):
        figures.append(one)
        verdict = "ok" if one.passed(cpu=options.cpu) else "OVER"
        print(
            f"{one.page:44} {one.queries:7} {one.first_ms:8.1f} {one.median_ms:8.1f}"
            f" {one.worst_ms:8.1f} {one.cpu_ms:7.1f} {one.limit_ms:6.0f}  {verdict}",
            flush=True,
        )
    over = [one for one in figures if not one.passed(cpu=options.cpu)]
    print(f"{len(figures)} pages, {len(over)} over their limit")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([asdict(one) for one in figures], file, indent=1)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
