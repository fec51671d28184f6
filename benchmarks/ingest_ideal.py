"""The bare work of ingesting by a plugin that does nothing, in straight code.

Claims and outcomes in batches by raw SQL. The rows and events are those that the program writes;
each statement says the same of all files of a batch, which the program must not assume.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.harness import Bench
from benchmarks.ingest_ground import Prepare

_INDEXED = "('BACKFILL', 'FAILURE', 'IGNORED', 'INVALID', 'RERUN', 'UNKNOWN', 'UNTRIED')"
_WAITING = (
    "SELECT id FROM ingest_ingestion WHERE ingester_id = {ingester} AND status = 'UNTRIED'"
    f" AND claim IS NULL AND status IN {_INDEXED} ORDER BY id LIMIT {{batch}}"
)
_EVENT = (
    'file_id, ingester_id, status, start_time, duration, err_message, cause, ingest_ver, claim,'
    ' worker, "user", note'
)  # fmt: skip
_STEPS = (("PENDING", ""), ("SUCCESS", ", claim = NULL, lease_until = NULL"))


def worker(bench: Bench, root: str, ingester: int, batch: int) -> Prepare:
    """Prepare a process that works until nothing waits."""

    @contextlib.contextmanager
    def prepare() -> Iterator[Callable[[], None]]:
        one = _postgres if bench.database == "postgresql" else _sqlite
        with contextlib.closing(bench.connect()) as connection:
            cursor = connection.cursor()

            def work() -> None:
                while one(cursor, root, ingester, batch):
                    pass

            yield work

    return prepare


def _postgres(cursor: Any, root: str, ingester: int, batch: int) -> int:
    token = uuid.uuid4().hex
    waiting = _WAITING.format(ingester=ingester, batch=batch)
    cursor.execute(
        "UPDATE ingest_ingestion SET claim = %s,"
        " lease_until = statement_timestamp() + interval '30 seconds'"
        f" WHERE id = ANY(ARRAY({waiting} FOR UPDATE SKIP LOCKED)) RETURNING id, file_id",
        [token],
    )
    rows = cursor.fetchall()
    cursor.execute(
        "SELECT relpath, filename FROM buffer_file WHERE id = ANY(%s)", [[f for _, f in rows]]
    )
    _look(root, cursor.fetchall())
    for status, end in _STEPS if rows else ():
        cursor.execute(
            f"""WITH done AS (
                UPDATE ingest_ingestion SET status = '{status}', attempts = 1,
                    changed_on = statement_timestamp(),
                    last_event_id = nextval('ingest_fileevent_id_seq'){end}
                WHERE id = ANY(%s) AND claim = %s RETURNING last_event_id, file_id)
            INSERT INTO ingest_fileevent (id, {_EVENT})
            SELECT last_event_id, file_id, %s, '{status}', statement_timestamp(), 0.001, '', '',
                '1.0', %s, 'ideal', '', '' FROM done""",
            [[row for row, _ in rows], token, ingester, token],
        )
    return len(rows)


def _sqlite(cursor: Any, root: str, ingester: int, batch: int) -> int:
    token, now = uuid.uuid4().hex, "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    waiting = _WAITING.format(ingester=ingester, batch=batch)
    # Nobody waits for the writer longer than for the commits of the other process.
    cursor.execute("PRAGMA busy_timeout = 30000")
    cursor.execute(
        f"UPDATE ingest_ingestion SET claim = ?, lease_until = {now}"
        f" WHERE id IN ({waiting}) RETURNING id, file_id",
        [token],
    )
    rows = cursor.fetchall()
    places = ", ".join(str(file) for _, file in rows)
    cursor.execute(f"SELECT relpath, filename FROM buffer_file WHERE id IN ({places})")
    _look(root, cursor.fetchall())
    for status, end in _STEPS if rows else ():
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = 'ingest_fileevent'")
        first = cursor.fetchone()[0] + 1
        cursor.executemany(
            f"UPDATE ingest_ingestion SET status = '{status}', attempts = 1, changed_on = {now},"
            f" last_event_id = ?{end} WHERE id = ? AND claim = ?",
            [(first + n, row, token) for n, (row, _) in enumerate(rows)],
        )
        cursor.executemany(
            f"INSERT INTO ingest_fileevent (id, {_EVENT}) VALUES (?, ?, {ingester}, '{status}',"
            f" {now}, 0.001, '', '', '1.0', '{token}', 'ideal', '', '')",
            [(first + n, file) for n, (_, file) in enumerate(rows)],
        )
        cursor.execute("COMMIT")
    return len(rows)


def _look(root: str, places: list[tuple[str, str]]) -> None:
    for relpath, filename in places:
        os.lstat(f"{root}/{relpath}/{filename}")
