"""Backfill of small files: hashed in place and recorded, by two workers, beside the ideal loop.

Chunks are those of the command; each process takes every other one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3
from django.db import connection
from django.utils import timezone
from psycopg2.extras import execute_values

from benchmarks.harness import Bench, main
from benchmarks.ingest_ground import PER_DIRECTORY, Prepare, together
from buffer import storages
from buffer.models import Storage
from ingest import backfill_files
from ingest.backfill import BackfillRun, Recorder
from ingest.backfill_sources import CHUNK_FILES
from ingest.models import Ingester

Chunk = Sequence[str]
#: Makes itself ready, and gives what is to be done with each chunk.
Ready = Callable[[], Callable[[Chunk], None]]

WORKERS = 2
_EVENT = (
    'file_id, ingester_id, status, start_time, err_message, cause, ingest_ver, worker, "user",'
    " note"
)  # fmt: skip


def run(bench: Bench) -> None:
    """100,000 files of 1 kB."""
    count = bench.size(100_000, 600)
    root = bench.directory("storage")
    chunks = _chunks(_fill(root, count))
    # They stand for files of long ago, which need not be synced before they are recorded; nobody
    # can make their times of change older.
    backfill_files._DURABLE_AFTER_S = 0.0  # type: ignore[misc]
    storage = storages.register("storage", root)
    ingester = Ingester.objects.create(name="target", storage=storage)
    memory: list[float] = []

    def turn(mine: Ready) -> float:
        _empty_tables()
        grown = bench.scratch / "grown"
        seconds = together(_each_its_share(mine, chunks, grown), WORKERS)
        if ingester.ingestion_set.filter(status="BACKFILL").count() != count:
            raise RuntimeError("not all files were recorded")
        memory.append(float(grown.read_text()))
        return count / seconds

    def ours() -> float:
        return turn(_ours(root, storage, ingester))

    def ideal() -> float:
        rate = turn(_ideal(bench, root, storage, ingester))
        memory.pop()
        return rate

    bench.compare(
        f"{count:,} x 1 kB, backfill, {WORKERS} workers",
        ours, ideal, unit="files/s", at_least=0.4, rounds=3,
    )  # fmt: skip
    bench.measure("  memory since a tenth of them", memory, unit="MB", at_most=5)


def _each_its_share(ready: Ready, chunks: Sequence[Chunk], grown: Path) -> Prepare:
    """Prepare a process that takes chunks until none is left, whoever is faster."""
    reading, writing = os.pipe()
    for number in range(len(chunks)):
        os.write(writing, number.to_bytes(4, "big"))
    os.close(writing)

    @contextlib.contextmanager
    def prepare() -> Iterator[Callable[[], None]]:
        record = ready()

        def work() -> None:
            early = 0.0
            while taken := os.read(reading, 4):
                number = int.from_bytes(taken, "big")
                record(chunks[number])
                early = early or (_memory_mb() if number >= len(chunks) // 10 else 0.0)
            grown.write_text(str(_memory_mb() - early))

        yield work

    return prepare


def _ours(root: Path, storage: Storage, ingester: Ingester) -> Ready:
    run = BackfillRun(storage.pk, ingester.pk, str(root), True, timezone.now())

    def ready() -> Callable[[Chunk], None]:
        recorder = Recorder(run)

        def record(chunk: Chunk) -> None:
            recorder.record(chunk, lambda counters: None)

        return record

    return ready


def _ideal(bench: Bench, root: Path, storage: Storage, ingester: Ingester) -> Ready:
    def ready() -> Callable[[Chunk], None]:
        cursor = bench.connect().cursor()
        record = _postgres if bench.database == "postgresql" else _sqlite

        def work(chunk: Chunk) -> None:
            rows = []
            for path in chunk:
                descriptor = os.open(root / path, os.O_RDONLY)
                content = os.read(descriptor, 1 << 20)
                os.close(descriptor)
                rows.append((*os.path.split(path), blake3(content).hexdigest(), len(content)))
            record(cursor, storage.pk, ingester.pk, rows)

        return work

    return ready


def _postgres(cursor: Any, storage: int, ingester: int, rows: list[tuple[Any, ...]]) -> None:
    cursor.execute("BEGIN")
    ids = execute_values(
        cursor,
        "INSERT INTO buffer_file (storage_id, relpath, filename, checksum, checksum_algorithm,"
        " size_bytes, added_on, stored_on) VALUES %s RETURNING id",
        rows, page_size=len(rows), fetch=True,
        template=f"({storage}, %s, %s, %s, 'blake3', %s, now(), now())",
    )  # fmt: skip
    cursor.execute(
        f"""WITH said AS (
            INSERT INTO ingest_fileevent ({_EVENT})
            SELECT id, {ingester}, 'BACKFILL', now(), '', '', '', '', '', ''
            FROM unnest(%s::bigint[]) AS id RETURNING file_id, id)
        INSERT INTO ingest_ingestion (file_id, ingester_id, status, cause, attempts, changed_on,
            last_event_id) SELECT file_id, {ingester}, 'BACKFILL', '', 0, now(), id FROM said""",
        [[file for (file,) in ids]],
    )
    cursor.execute("COMMIT")


def _sqlite(cursor: Any, storage: int, ingester: int, rows: list[tuple[Any, ...]]) -> None:
    now = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    cursor.execute("PRAGMA busy_timeout = 30000")
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("SELECT coalesce(max(id), 0) FROM buffer_file")
    first = cursor.fetchone()[0] + 1
    cursor.executemany(
        "INSERT INTO buffer_file (storage_id, relpath, filename, checksum, checksum_algorithm,"
        f" size_bytes, added_on, stored_on) VALUES ({storage}, ?, ?, ?, 'blake3', ?, {now}, {now})",
        rows,
    )
    cursor.execute(
        f"INSERT INTO ingest_fileevent ({_EVENT}) SELECT id, {ingester}, 'BACKFILL', {now}, '', '',"
        " '', '', '', '' FROM buffer_file WHERE id >= ?",
        [first],
    )
    cursor.execute("SELECT last_insert_rowid()")
    event = cursor.fetchone()[0] - len(rows) + 1
    cursor.execute(
        "INSERT INTO ingest_ingestion (file_id, ingester_id, status, cause, attempts, changed_on,"
        f" last_event_id) SELECT id, {ingester}, 'BACKFILL', '', 0, {now}, id + ?"
        " FROM buffer_file WHERE id >= ?",
        [event - first, first],
    )
    cursor.execute("COMMIT")


def _empty_tables() -> None:
    with connection.cursor() as cursor:
        for table in ("ingest_ingestion", "ingest_fileevent", "buffer_file"):
            cursor.execute(
                f"TRUNCATE {table} CASCADE"
                if connection.vendor == "postgresql"
                else f"DELETE FROM {table}"
            )


def _fill(root: Path, count: int) -> list[str]:
    block, paths = os.urandom(1000), []
    for number in range(count):
        directory = root / f"{number // PER_DIRECTORY:06d}"
        if number % PER_DIRECTORY == 0:
            directory.mkdir()
        path = directory / f"{number:09d}.fits"
        path.write_bytes(f"{number:09d}".encode() + block[9:])
        paths.append(f"{directory.name}/{path.name}")
    os.sync()
    return paths


def _chunks(paths: list[str]) -> list[Chunk]:
    return [paths[n : n + CHUNK_FILES] for n in range(0, len(paths), CHUNK_FILES)]


def _memory_mb() -> float:
    with contextlib.closing(open("/proc/self/statm")) as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main(run)
