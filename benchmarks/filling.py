"""A PostgreSQL database as it is after years: 10 million files and 30 million events, in minutes.

Everything is made by the server, in the shape that the program gives it: ids grow with time, the
newest files wait, one in ten failed, of some causes that are many and of ten thousand that are
few.
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from django.core.management import call_command
from django.db import connection, connections

from benchmarks.bulk import in_bulk
from buffer.models import Storage
from ingest.models import Ingester

#: Days over which the files arrived.
DAYS = 50
#: Files of the newest that wait.
WAITING = 60_000

# What became of a file, by a number from 0 to 999 that is spread evenly over all files.
_SPREAD = "(i * 7919 %% 1000)"
_OUTCOME = f"""CASE
    WHEN i > %(files)s - {WAITING} THEN 'UNTRIED'
    WHEN {_SPREAD} < 100 THEN 'FAILURE'
    WHEN {_SPREAD} < 105 THEN 'UNKNOWN'
    WHEN {_SPREAD} < 106 THEN 'INVALID'
    WHEN {_SPREAD} < 126 THEN 'IGNORED'
    ELSE 'SUCCESS' END"""
_CAUSE = """CASE
    WHEN status NOT IN ('FAILURE', 'UNKNOWN', 'INVALID') THEN ''
    WHEN i %% 10 < 5 THEN 'no master flat for <id> in collection <path>'
    WHEN i %% 10 < 7 THEN 'ConnectionError: <url> does not answer'
    WHEN i %% 10 < 8 THEN 'header lacks keyword ' || (i / 10 %% 8)
    ELSE 'translator of <file> says ' || (i / 10 %% 10000) END"""
_ARRIVED = "now() - (%(files)s - i) * interval '1 second' * %(step)s"

_FILES = f"""
    INSERT INTO buffer_file (id, storage_id, relpath, filename, checksum, checksum_algorithm,
                             size_bytes, added_on, seen_on, stored_on)
    SELECT i, CASE WHEN i %% 10 = 9 THEN 2 ELSE 1 END,
           to_char({_ARRIVED}, 'YYYYMMDD') || '/exp' || lpad((i / 205)::text, 7, '0'),
           'exp' || lpad((i / 205)::text, 7, '0') || '_det' || lpad((i %% 205)::text, 3, '0')
               || '.fits',
           md5(i::text) || md5((-i)::text), 'blake3', 1000 + i * 104729 %% 20000000,
           {_ARRIVED}, {_ARRIVED} - interval '2 seconds',
           {_ARRIVED} + interval '1 second' * (0.1 + i %% 17 * 0.05)
    FROM generate_series(1::bigint, %(files)s) i"""

_INGESTIONS = f"""
    INSERT INTO ingest_ingestion (id, file_id, ingester_id, status, cause, attempts, changed_on,
                                  last_event_id)
    SELECT i, i, CASE WHEN i %% 10 = 9 THEN 2 ELSE 1 END, status, {_CAUSE},
           CASE WHEN status = 'UNTRIED' THEN 0 ELSE 1 END,
           {_ARRIVED} + interval '1 second' * (1 + i %% 31 * 0.2), 3 * i
    FROM (SELECT i, {_OUTCOME} AS status
          FROM generate_series(1::bigint, %(files)s - 1000) i) made"""

_EVENTS = """
    INSERT INTO ingest_fileevent (id, file_id, ingester_id, status, start_time, duration,
                                  err_message, cause, ingest_ver, claim, worker, "user", note)
    SELECT 3 * i - 2 + n, i, ingester_id,
           CASE n WHEN 0 THEN 'UNTRIED' WHEN 1 THEN 'PENDING' ELSE status END,
           changed_on - interval '0.3 seconds' * (2 - n), CASE n WHEN 2 THEN 0.25 END,
           CASE n WHEN 2 THEN cause ELSE '' END, CASE n WHEN 2 THEN cause ELSE '' END,
           CASE n WHEN 0 THEN '' ELSE 'gen3 30.2026.4300' END,
           CASE n WHEN 0 THEN NULL ELSE md5((i / 100)::text)::uuid END,
           CASE n WHEN 0 THEN '' ELSE 'host-' || i %% 7 || ':4711' END, '', ''
    FROM (SELECT id AS i, ingester_id, status, cause, changed_on FROM ingest_ingestion) made
    CROSS JOIN generate_series(0, 2) n
    WHERE n = 0 OR status <> 'UNTRIED'"""

# Files tried again within the last day, old ones too: their newest events have the highest ids.
_RERUNS = """
    INSERT INTO ingest_fileevent (id, file_id, ingester_id, status, start_time, duration,
                                  err_message, cause, ingest_ver, worker, "user", note)
    SELECT 3 * %(files)s + 3 * i + n, i * 95, CASE WHEN i * 95 %% 10 = 9 THEN 2 ELSE 1 END,
           (ARRAY['RERUN', 'PENDING', 'SUCCESS'])[n + 1],
           now() - (100000 - i) * interval '0.8 seconds', CASE n WHEN 2 THEN 0.25 END,
           '', '', '', CASE n WHEN 0 THEN '' ELSE 'host-1:4711' END,
           CASE n WHEN 0 THEN 'operator' ELSE '' END, CASE n WHEN 0 THEN 'new flats' ELSE '' END
    FROM generate_series(1::bigint, %(files)s / 100) i CROSS JOIN generate_series(0, 2) n
    WHERE i <= 100000"""

_REFUSALS = """
    INSERT INTO buffer_refusal (storage_id, source, path, key, reason, detail, size_bytes, identity,
                                checksum, first_seen, last_seen, times_seen, resolved_on,
                                resolved_how, resolved_by)
    SELECT 1, '/data/buffer', 'night' || i / 1000 || '/exp' || i || '.fits', md5(i::text),
           (ARRAY['DUPLICATE', 'CONFLICT', 'BAD_NAME', 'NOT_REGULAR'])[1 + i %% 4],
           'made by the benchmark', 1000, '', md5(i::text) || md5((-i)::text),
           now() - (%(files)s / 20 - i) * interval '8 seconds',
           now() - (%(files)s / 20 - i) * interval '8 seconds', 1,
           CASE WHEN i %% 50 <> 1 THEN now() END, '', ''
    FROM generate_series(1::bigint, %(files)s / 20) i"""

_SUSPICIONS = """
    INSERT INTO buffer_suspicion (file_id, kind, detail, found_on, found_by, seen_on, cleared_how,
                                  cleared_by)
    SELECT i * 1000, 'CHANGED', 'made by the benchmark', now(), '', now(), '', ''
    FROM generate_series(1::bigint, %(files)s / 100000) i"""


def ensure_database(url: str, *, anew: bool = False) -> bool:
    """Make the database that a URL names; say whether it is new."""
    parts = urlsplit(url)
    server = psycopg2.connect(urlunsplit(parts._replace(path="/postgres")))
    server.autocommit = True
    name = parts.path.lstrip("/")
    with server.cursor() as cursor:
        if anew:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        if cursor.fetchone() is not None:
            return False
        cursor.execute(f'CREATE DATABASE "{name}"')
    server.close()
    return True


def fill(files: int) -> None:
    """Migrate the default database and fill it.

    Parameters
    ----------
    files
        How many files it is to have; it gets three times as many events.
    """
    call_command("migrate", verbosity=0)
    for number in (1, 2):
        storage = Storage.objects.create(name=f"files{number}", root=f"/data/storage{number}")
        Ingester.objects.create(
            name=f"gen{number}_file_events",
            storage=storage,
            plugin="Gen3Ingest",
            watermark=files - 1000,
        )
    values = {"files": files, "step": DAYS * 86400 / files}
    with in_bulk(), connection.cursor() as cursor:
        for statement in (_FILES, _INGESTIONS, _EVENTS, _RERUNS, _REFUSALS, _SUSPICIONS):
            began = time.monotonic()
            cursor.execute(statement, values)
            table = statement.split()[2]
            print(
                f"  {table}: {cursor.rowcount} rows, {time.monotonic() - began:.0f} s", flush=True
            )
        cursor.execute(
            "UPDATE ingest_ingestion SET status = 'SUCCESS', cause = '', attempts = 2,"
            " changed_on = event.start_time, last_event_id = event.id"
            " FROM ingest_fileevent event"
            " WHERE event.id > 3 * %(files)s AND event.status = 'SUCCESS'"
            " AND ingest_ingestion.file_id = event.file_id",
            values,
        )
    # What was set for filling ends with the connection.
    connections.close_all()
