"""The few things that PostgreSQL and SQLite say differently, in one place.

Raw SQL is used where one statement must do what the ORM would need several for: claims and
compare-and-set transitions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from django.db import connection
from django.db.models.functions import TruncHour

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

#: Types of the columns that a JSON array of rows is read as.
_POSTGRES_TYPES: Final[Mapping[str, str]] = {
    "id": "bigint",
    "text": "text",
    "time": "timestamptz",
    "uuid": "uuid",
    "flag": "boolean",
    "number": "double precision",
}


def is_postgres() -> bool:
    """Tell whether the default database is PostgreSQL (else it is SQLite)."""
    return connection.vendor == "postgresql"


def now() -> str:
    """SQL for the database's own clock, in the form that Django stores times in."""
    if is_postgres():
        return "statement_timestamp()"
    return "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"


def now_plus(seconds: float) -> str:
    """SQL for the database's clock plus some seconds."""
    if is_postgres():
        return f"(statement_timestamp() + interval '{float(seconds)} seconds')"
    return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '{float(seconds):+f} seconds')"


def now_plus_column(seconds: str) -> str:
    """SQL for the database's clock plus as many seconds as a column has; null if that is null."""
    if is_postgres():
        return f"(statement_timestamp() + {seconds} * interval '1 second')"
    return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', {seconds} || ' seconds')"


class Hour(TruncHour):
    """The hour (UTC) that a time lies in.

    On SQLite Django's own calls Python for every row: a busy day took seconds.
    """

    def __init__(self, field: str) -> None:
        super().__init__(field, tzinfo=UTC)

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any
    ) -> tuple[str, tuple[Any, ...]]:
        """Cut off the text that SQLite has for a time."""
        sql, params = compiler.compile(self.lhs)
        return f"substr({sql}, 1, 13) || ':00:00'", tuple(params)


def clock() -> datetime:
    """Read the database's own clock, which is the same for all hosts."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {now()}", [])
        (moment,) = cursor.fetchone()
    if isinstance(moment, datetime):
        return moment
    return datetime.fromisoformat(moment).replace(tzinfo=UTC)


def rows_from_json(columns: Mapping[str, str], *, few: bool = False) -> str:
    """SQL for a table that is read from one parameter, a JSON array of objects.

    One parameter instead of one for each value: no limit on their number, no types to guess.

    Parameters
    ----------
    columns : `~collections.abc.Mapping` [`str`, `str`]
        Names of the columns and their types: id, text, time (as `time_text` writes it), uuid, flag
        or number.
    few : `bool`, optional
        Let PostgreSQL expect ten rows, as it does of a limit that it does not know yet, and not a
        hundred. Then it looks them up by an index also in a table of some ten thousand rows, where
        it would rather scan all of them for each batch.
    """
    if is_postgres():
        spec = ", ".join(f'"{name}" {_POSTGRES_TYPES[kind]}' for name, kind in columns.items())
        if few:
            rows = f"SELECT * FROM json_to_recordset(%s) AS r({spec})"
            return f"({rows} LIMIT (SELECT NULL::int)) AS v"
        return f"json_to_recordset(%s) AS v({spec})"
    fields = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in columns)
    return f"(SELECT {fields} FROM json_each(%s)) AS v"


def time_text(moment: datetime) -> str:
    """Write a time in UTC as `insert` and `rows_from_json` take it: as Django's SQLite does."""
    return moment.isoformat(" ")[:-6]


def insert(table: str, columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert many rows at once, as fast as each of the databases can.

    PostgreSQL: one statement and one parameter. SQLite: one prepared statement, which is three
    times as fast as taking JSON apart.

    Parameters
    ----------
    table : `str`
        Its name.
    columns : `~collections.abc.Mapping` [`str`, `str`]
        As for `rows_from_json`.
    rows : `~collections.abc.Sequence` [`tuple`]
        Values that JSON has, too.
    """
    names = ", ".join(f'"{name}"' for name in columns)
    with connection.cursor() as cursor:
        if is_postgres():
            objects = json.dumps([dict(zip(columns, row, strict=True)) for row in rows])
            sql = f"INSERT INTO {table} ({names}) SELECT {names} FROM {rows_from_json(columns)}"
            cursor.execute(sql, [objects])
        elif rows:
            places = ", ".join(["%s"] * len(columns))
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", rows)


def same(left: str, right: str) -> str:
    """SQL for equality in which null equals null."""
    operator = "IS NOT DISTINCT FROM" if is_postgres() else "IS"
    return f"{left} {operator} {right}"


def further(column: str, value: str, key: str, above: int) -> tuple[str, list[int]]:
    """SQL for "has this value, and a key above that one", in the order of both, and its parameters.

    Where PostgreSQL believes that most rows have the value, by statistics of an hour ago, it would
    go through the table by its primary key until it finds one that does. If the two are compared
    together, an index on both is the only way. SQLite would not begin at the key then; it can be
    told which index to take (`by_index`).

    Parameters
    ----------
    column, key : `str`
        Names of columns.
    value : `str`
        A word, which becomes part of the statement.
    above : `int`
        Where to begin.
    """
    if is_postgres():
        return f"({column}, {key}) > ('{value}', %s) AND {column} <= '{value}'", [above]
    return f"{column} = '{value}' AND {key} > %s", [above]


def by_index(table: str, index: str) -> str:
    """SQL for a table that SQLite is to read by one of its indexes; PostgreSQL cannot be told."""
    return table if is_postgres() else f"{table} INDEXED BY {index}"


def for_each(rows: str, table: str, found: str) -> str:
    """SQL for "FROM ... WHERE" in which rows of a table are looked up for each row of another one.

    Where PostgreSQL believes that a table is small, or a storage area's part of it, as its
    statistics of a while ago say, it would go through all of that once for all of the rows. It is
    told not to mix the two by a limit that is none; SQLite, by the order in which it is told them.

    Parameters
    ----------
    rows, table : `str`
        Names in SQL, each with an alias.
    found : `str`
        What the rows are looked up by: a condition with columns of both.
    """
    if not is_postgres():
        return f"FROM {rows} CROSS JOIN {table} WHERE {found}"
    alias = table.rpartition(" ")[2]
    one = f"SELECT {alias}.* FROM {table} WHERE {found} OFFSET 0"
    return f"FROM {rows} CROSS JOIN LATERAL ({one}) AS {alias}"


def in_order(statement: str) -> str:
    """SQL of a statement that is to read the first rows of an index in its order, and no more.

    Where PostgreSQL believes that few rows match, as it does of a table without statistics, it
    would collect all of them by a bitmap, and sort. A bitmap passes over dead entries of an index
    for ever, too, where a scan in order marks them as dead for those who come later. It cannot be
    told which way to take, but that sorting is out of the question: until the end of the
    transaction, which is this statement's own if there is no other.
    """
    return f"SET LOCAL enable_sort = off; {statement}" if is_postgres() else statement


def one_of(query: str) -> str:
    """SQL for "equals one of the rows of `query`", which is run exactly once.

    PostgreSQL may run a plain ``IN (SELECT ... LIMIT n FOR UPDATE SKIP LOCKED)`` several times and
    so lock more rows than n; an array is built once.
    """
    return f"= ANY(ARRAY({query}))" if is_postgres() else f"IN ({query})"


def skip_locked() -> str:
    """SQL that passes over rows which somebody else is claiming.

    SQLite has one writer at a time (transactions begin IMMEDIATE), so nothing is to be skipped.
    """
    return " FOR UPDATE SKIP LOCKED" if is_postgres() else ""


def next_id(table: str, offset: str) -> str:
    """SQL for the next free id of a table, to be used inside an UPDATE or INSERT.

    On PostgreSQL it is taken when the row is locked, so that the ids of one row's events are in
    the order of its changes. On SQLite the writer is alone and `offset` (1, 2, ...) counts from
    the last id that was given out.
    """
    if is_postgres():
        # Its name is looked up once for a statement, and not for each row.
        return f"nextval((SELECT pg_get_serial_sequence('{table}', 'id')::regclass))"
    return f"(SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = '{table}') + {offset}"
