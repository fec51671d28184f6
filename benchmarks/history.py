"""Databases as they are after years of work: any number of files, each with its history.

The server makes the rows itself, in the shape that the program gives them: ids grow with time,
every file was opened, begun and ended, one in a hundred in failure, and nothing waits. The
databases are kept, since ten million files and thirty million events take minutes to make.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any, Final

import psycopg2
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection, connections
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from benchmarks.bulk import in_bulk
from benchmarks.harness import bench_dir
from buffer import storages
from buffer.database import use
from buffer.names import MARKER_NAME
from buffer.sections import Database
from ingest import targets
from ingest.config import IngesterFile
from ingest.models import Ingester
from tests import servers

SERVER: Final = os.environ.get("BENCH_POSTGRES_URL") or servers.DEFAULT_POSTGRES
#: Events of each file: UNTRIED, PENDING, and how it ended.
EVENTS: Final = 3

_POSTGRES: Final = {
    "numbers": "generate_series(1::bigint, {files}) s(i)",
    "with": "",
    "padded": "lpad(i::text, 10, '0')",
    "digest": "md5(i::text) || md5((-i)::text)",
    "time": "now() - ({files} - i) * interval '1 second'",
    "claim": "md5((i / 100)::text)::uuid",
}
_SQLITE: Final = {
    "numbers": "s",
    "with": "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {files})",
    "padded": "printf('%010d', i)",
    "digest": "printf('%064x', i)",
    "time": "strftime('%Y-%m-%d %H:%M:%f', 'now', (i - {files}) || ' seconds')",
    "claim": "printf('%032x', i / 100)",
}
_OUTCOME: Final = "CASE WHEN i % 100 = 0 THEN 'FAILURE' ELSE 'SUCCESS' END"
_MESSAGE: Final = "CASE WHEN i % 100 = 0 THEN 'the header lacks DATE-OBS' ELSE '' END"

_FILES: Final = """
    INSERT INTO buffer_file (id, storage_id, relpath, filename, checksum, checksum_algorithm,
                             size_bytes, added_on, seen_on, stored_on)
    {with} SELECT i, {storage}, 'night_' || substr({padded}, 1, 6), 'exposure_' || {padded} ||
                  '.fits', {digest}, 'blake3', 1000 + i % 1000, {time}, {time}, {time}
    FROM {numbers}"""
_EVENTS: Final = """
    INSERT INTO ingest_fileevent (id, file_id, ingester_id, status, start_time, duration,
                                  err_message, cause, ingest_ver, claim, worker, "user", note)
    {with} SELECT 3 * i - 2 + n, i, {ingester},
                  CASE n WHEN 0 THEN 'UNTRIED' WHEN 1 THEN 'PENDING' ELSE {outcome} END,
                  {time}, CASE n WHEN 2 THEN 0.25 END, CASE n WHEN 2 THEN {message} ELSE '' END,
                  CASE n WHEN 2 THEN {message} ELSE '' END,
                  CASE n WHEN 2 THEN 'gen3 30.2026.4300' ELSE '' END,
                  CASE WHEN n > 0 THEN {claim} END, 'host-1:4711', '', ''
    FROM {numbers} CROSS JOIN (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2) three"""
_INGESTIONS: Final = """
    INSERT INTO ingest_ingestion (id, file_id, ingester_id, status, cause, attempts, changed_on,
                                  last_event_id)
    {with} SELECT i, i, {ingester}, {outcome}, {message}, 1, {time}, 3 * i
    FROM {numbers}"""


def name(files: int) -> str:
    """Name the PostgreSQL database, or the SQLite file without its suffix, of so many files.

    It belongs to a directory: another one has another storage area and a database of its own.
    """
    place = hashlib.blake2b(os.fsencode(bench_dir().resolve()), digest_size=4).hexdigest()
    return f"endpoint_history_{files}_{place}"


def ensure(database: str, files: int) -> str:
    """Make a history unless it is there.

    Parameters
    ----------
    database : `str`
        ``sqlite`` or ``postgresql``.
    files : `int`
        How many; there are `EVENTS` times as many events.

    Returns
    -------
    url : `str`
        Of the database; `turn_to` it.
    """
    url = _url(database, files)
    _create(database, files)
    turn_to(url)
    if not _is_complete(files, storage_area(database, files)):
        print(f"making {database} with {files:,} files ...", flush=True)
        drop(database, files)
        _create(database, files)
        turn_to(url)
        call_command("migrate", verbosity=0)
        _fill(files, storage_area(database, files))
    return url


def drop(database: str, files: int) -> None:
    """Remove a history."""
    connections.close_all()
    if database == "postgresql":
        _server(f"DROP DATABASE IF EXISTS {name(files)} WITH (FORCE)")
    else:
        for path in bench_dir().glob(f"{name(files)}.sqlite3*"):
            path.unlink()
    shutil.rmtree(storage_area(database, files))


def turn_to(url: str) -> None:
    """Make it the default database."""
    connections.close_all()
    use(Database.model_validate({"engine": url}))
    # What the pages have kept of another database would be taken for this one's.
    cache.clear()


def storage_area(database: str, files: int) -> Path:
    """Give the storage area's root, which holds nothing: who measures needs its marker only."""
    path = bench_dir() / f"{name(files)}-{database}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def configuration() -> IngesterFile:
    """Give the ingester's YAML file."""
    return IngesterFile.model_validate(
        {
            "database": {"tablenames": {"event": {"table": "history_events"}}},
            "ingester": {"plugin": {"name": "NullIngest"}, "batch_size": 100},
        }
    )


def _is_complete(files: int, root: Path) -> bool:
    call_command("migrate", verbosity=0)
    # Unlogged tables are empty after a crash of the server.
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(id) FROM buffer_file")
        there: tuple[Any] = cursor.fetchone()
    marked = (root / MARKER_NAME).exists()
    return marked and there == (files,) and Ingester.objects.filter(watermark=files).exists()


def _fill(files: int, root: Path) -> None:
    storage = storages.register("files", root)
    ingester = targets.register(configuration(), storage)
    words = _SQLITE if connection.vendor == "sqlite" else _POSTGRES
    words = {key: word.format(files=files) for key, word in words.items()}
    with in_bulk():
        for statement in (_FILES, _EVENTS, _INGESTIONS):
            began = time.monotonic()
            sql = statement.format(
                **words,
                outcome=_OUTCOME,
                message=_MESSAGE,
                storage=storage.pk,
                ingester=ingester.pk,
            )
            with connection.cursor() as cursor:
                cursor.execute(sql)
                print(f"  {sql.split()[2]}: {time.monotonic() - began:.0f} s", flush=True)
    Ingester.objects.filter(pk=ingester.pk).update(watermark=files)
    # What was set for filling ends with the connection.
    connections.close_all()


def _create(database: str, files: int) -> None:
    if database == "postgresql":
        _server(f"CREATE DATABASE {name(files)}", unless_there=name(files))


def _url(database: str, files: int) -> str:
    if database == "sqlite":
        return f"sqlite:///{bench_dir() / name(files)}.sqlite3"
    return f"{SERVER.rpartition('/')[0]}/{name(files)}"


def _server(statement: str, *, unless_there: str = "") -> None:
    server = psycopg2.connect(SERVER)
    server.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    try:
        with server.cursor() as cursor:
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", [unless_there])
            if cursor.fetchone() is None:
                cursor.execute(statement)
    finally:
        server.close()
