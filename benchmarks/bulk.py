"""Filling tables with millions of rows in minutes: without indexes, and not to survive a crash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import connection
from django.db.models import Model

from buffer.models import Decision, File, Refusal, Suspicion
from ingest.models import FileEvent, Ingestion

#: Who refers to a table comes before it.
_MODELS: Final[tuple[type[Model], ...]] = (
    FileEvent,
    Ingestion,
    Decision,
    Refusal,
    Suspicion,
    File,
)


@contextmanager
def in_bulk() -> Iterator[None]:
    """Let rows be inserted fast, and leave the default database as after a vacuum.

    On PostgreSQL the tables are unlogged from now on: empty after a crash of the server. What is
    set meanwhile lasts as long as the connection, which is to be closed afterwards.
    """
    with _sqlite() if connection.vendor == "sqlite" else _postgres():
        yield


@contextmanager
def _sqlite() -> Iterator[None]:
    with connection.cursor() as cursor:
        for pragma in ("foreign_keys = OFF", "synchronous = OFF", "cache_size = -500000"):
            cursor.execute(f"PRAGMA {pragma}")
        yield
        cursor.execute("ANALYZE")


@contextmanager
def _postgres() -> Iterator[None]:
    tables = [model._meta.db_table for model in _MODELS]
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("SET synchronous_commit = off")
        cursor.execute("SET maintenance_work_mem = '1GB'")
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} SET UNLOGGED")
        cursor.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indrelid::regclass::text = ANY(%s) AND NOT indisprimary AND NOT EXISTS"
            " (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
            [tables],
        )
        indexes = cursor.fetchall()
        for index, _ in indexes:
            cursor.execute(f"DROP INDEX {index}")
        yield
        began = time.monotonic()
        for _, definition in indexes:
            cursor.execute(definition)
        for table in tables:
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'),"
                f" (SELECT coalesce(max(id), 1) FROM {table}))"
            )
            cursor.execute(f"VACUUM ANALYZE {table}")
        print(f"  indexes and statistics: {time.monotonic() - began:.0f} s", flush=True)
