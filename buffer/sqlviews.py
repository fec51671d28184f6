"""Views by which operators work in SQL, named as in the YAML files.

The tables keep Django's names, so that migrations may rebuild them; ``tablenames.file.table`` and
``tablenames.event.table`` name views over them. Views are dropped before migrations and made again
after them, because PostgreSQL will not alter a column that a view uses and SQLite cannot rebuild a
table that one names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from buffer.models import Storage

logger = logging.getLogger(__name__)

#: Two components that start together make their views one after the other.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('endpoint buffer manager: views'))"

# PostgreSQL lets such simple views be written through; SQLite never does.
_READ_ONLY = """
CREATE OR REPLACE FUNCTION buffer_view_is_read_only() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION '% of % is not possible: it is a record of what happened',
        TG_OP, TG_TABLE_NAME USING ERRCODE = 'read_only_sql_transaction';
END
$body$"""


@dataclass(frozen=True, slots=True)
class View:
    """A view to be made.

    Parameters
    ----------
    name : `str`
        Its name, as in the YAML file.
    table : `str`
        The table of ours that it shows.
    columns : `str`
        What it selects.
    owner : `tuple` [`str`, `int`]
        The column and the id that tell whose rows it shows.
    also : `str`, optional
        A further condition.
    extras : `list` [`str`], optional
        Statements to run after it was made (triggers).
    """

    name: str
    table: str
    columns: str
    owner: tuple[str, int]
    also: str = ""
    extras: list[str] = field(default_factory=list)

    @property
    def select(self) -> str:
        """The query behind it."""
        column, value = self.owner
        return f"SELECT {self.columns} FROM {self.table} WHERE {column} = {value}{self.also}"

    def is_shown_by(self, definition: str) -> bool:
        """Tell whether a view's text, as the database gives it, is that of this view."""
        column, value = self.owner
        return (
            self.table in definition
            and re.search(rf"\b{column} = {value}\b", definition) is not None
        )


def read_only(name: str, operations: str) -> list[str]:
    """Statements that keep a view of PostgreSQL from being written through.

    Parameters
    ----------
    name : `str`
        Name of the view.
    operations : `str`
        ``INSERT OR UPDATE OR DELETE``, or some of them.
    """
    return [
        _READ_ONLY,
        f'CREATE TRIGGER "{name}_read_only" INSTEAD OF {operations} ON "{name}"'
        " FOR EACH ROW EXECUTE FUNCTION buffer_view_is_read_only()",
    ]


def ensure(view: View, using: str = "default") -> bool:
    """Make a view unless it is there.

    Returns
    -------
    there : `bool`
        False when it cannot be made: the name belongs to something else, or this database user has
        no right to make views. That is a warning, for everything but SQL works without it.

    Raises
    ------
    django.db.DatabaseError
        The connection was cut, as any other statement of a start may find it.
    """
    connection = connections[using]
    connection.ensure_connection()
    session = connection.connection
    try:
        with transaction.atomic(using=using), connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                # Before the look: another's DROP VIEW in the middle of one is an error.
                cursor.execute(_LOCK)
            found = _definition(connection, view.name)
            # A view of ours that shows nobody's rows any more, after a `manage.py flush`.
            if found is not None and not view.is_shown_by(found) and view.table in found:
                cursor.execute(f'DROP VIEW "{view.name}"')
                found = None
            if found is None:
                cursor.execute(f'CREATE VIEW "{view.name}" AS {view.select}')
                for statement in view.extras:
                    cursor.execute(statement)
                return True
    except DatabaseError as error:
        # Django closes one that is cut, and may have opened another by now.
        if connection.connection is not session:
            raise
        logger.warning(
            "cannot make the view %s, so there is no SQL access by that name (everything else"
            " works): %s. Grant this database user CREATE on the schema, or choose another name"
            " under database.tablenames.",
            view.name,
            str(error).strip(),
        )
        return False
    if view.is_shown_by(found):
        return True
    logger.warning(
        "the name %s in the database belongs to a table or view that is not ours, so there is no"
        " SQL access by that name (everything else works). Choose another name under"
        " database.tablenames, or another schema.",
        view.name,
    )
    return False


def drop(name: str, table: str, using: str = "default") -> None:
    """Drop the views of ours of that name, in whatever schema, and nothing else of that name."""
    connection = connections[using]
    for shown in _ours(connection, name, table):
        try:
            with transaction.atomic(using=using), connection.cursor() as cursor:
                cursor.execute(f"DROP VIEW {shown}")
        except DatabaseError as error:
            logger.warning(
                "cannot drop the view %s before the migration: %s. If the migration fails because"
                " of it, drop it by hand; it is made again afterwards.",
                shown,
                str(error).strip(),
            )


def existing(connection: BaseDatabaseWrapper, table: str) -> bool:
    """Tell whether a table is there; before the first migration it is not."""
    with connection.cursor() as cursor:
        return table in connection.introspection.table_names(cursor)


def storage_view(storage: Storage, using: str = "default") -> View:
    """Give the view of one storage's files, with the columns of the quickstart's table."""
    postgres = connections[using].vendor == "postgresql"
    return View(
        name=storage.name,
        table="buffer_file",
        columns="id, relpath, filename, checksum, size_bytes, added_on",
        owner=("storage_id", storage.pk),
        also=" AND stored_on IS NOT NULL",
        extras=read_only(storage.name, "INSERT OR UPDATE OR DELETE") if postgres else [],
    )


def before_migrate(using: str, plan: Any = None, **_: Any) -> None:
    """Drop the views of storages (signal handler)."""
    # With nothing to migrate they stay, and so do the rights that were granted on them.
    if plan != [] and existing(connections[using], "buffer_storage"):
        for name in names("buffer_storage", using):
            drop(name, "buffer_file", using)


def after_migrate(using: str, **_: Any) -> None:
    """Make the views of storages again (signal handler)."""
    if existing(connections[using], "buffer_storage"):
        for storage in Storage.objects.using(using).order_by("id"):
            ensure(storage_view(storage, using), using)


def names(table: str, using: str) -> Iterable[str]:
    """Names in a table of ours, read without its model, whose columns may be newer."""
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT name FROM {table} ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


def _definition(connection: BaseDatabaseWrapper, name: str) -> str | None:
    """Text of a view; '' for a table of that name, None if there is nothing."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Only where the view would be made: other schemas may have their own of that name.
            cursor.execute(
                "SELECT CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) ELSE '' END"
                " FROM pg_class WHERE relname = %s AND relnamespace ="
                " (SELECT oid FROM pg_namespace WHERE nspname = current_schema())",
                [name],
            )
        else:
            cursor.execute(
                "SELECT CASE type WHEN 'view' THEN sql ELSE '' END FROM sqlite_master"
                " WHERE name = %s",
                [name],
            )
        row = cursor.fetchone()
    return None if row is None else str(row[0] or "")


def _ours(connection: BaseDatabaseWrapper, name: str, table: str) -> list[str]:
    """Quoted names of the views of that name over that table of ours."""
    if connection.vendor != "postgresql":
        return [f'"{name}"'] if table in (_definition(connection, name) or "") else []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT format('%%I.%%I', n.nspname, c.relname)"
            " FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid"
            " JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = to_regclass(%s)"
            " AND c.relkind = 'v' AND c.relname = %s",
            [table, name],
        )
        return [row[0] for row in cursor.fetchall()]
