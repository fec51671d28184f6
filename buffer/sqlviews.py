"""Views by which operators work in SQL, named as in the YAML files.

The tables keep Django's names, so that migrations may rebuild them; ``tablenames.file.table`` and
``tablenames.event.table`` name views over them. Views are dropped before migrations and made again
after them, because PostgreSQL will not alter a column that a view uses and SQLite cannot rebuild a
table that one names.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from buffer.models import Storage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """A view to be made.

    Parameters
    ----------
    name : `str`
        Its name, as in the YAML file.
    select : `str`
        The query behind it. Must name `table`, by which we tell our views from others'.
    table : `str`
        The table of ours that it shows.
    extras : `list` [`str`], optional
        Statements to run after it was made (triggers).
    """

    name: str
    select: str
    table: str
    extras: list[str] = field(default_factory=list)


def ensure(view: View, using: str = "default") -> bool:
    """Make a view unless it is there.

    Returns
    -------
    there : `bool`
        False when it cannot be made: the name belongs to something else, or this database user has
        no right to make views. That is a warning, for everything but SQL works without it.
    """
    connection = connections[using]
    try:
        found = _definition(connection, view.name)
        if found is None:
            with transaction.atomic(using=using), connection.cursor() as cursor:
                cursor.execute(f'CREATE VIEW "{view.name}" AS {view.select}')
                for statement in view.extras:
                    cursor.execute(statement)
            return True
    except DatabaseError as error:
        # Two components that start together: the other one made it.
        if view.table in (_definition(connection, view.name) or ""):
            return True
        logger.warning(
            "cannot make the view %s, so there is no SQL access by that name (everything else"
            " works): %s. Grant this database user CREATE on the schema.",
            view.name,
            str(error).strip(),
        )
        return False
    if view.table in found:
        return True
    logger.warning(
        "the name %s in the database belongs to a table or view that is not ours, so there is no"
        " SQL access by that name (everything else works). Choose another name under"
        " database.tablenames, or another schema.",
        view.name,
    )
    return False


def drop(name: str, table: str, using: str = "default") -> None:
    """Drop a view of ours, and nothing else of that name."""
    connection = connections[using]
    if table in (_definition(connection, name) or ""):
        with connection.cursor() as cursor:
            cursor.execute(f'DROP VIEW "{name}"')


def existing(connection: BaseDatabaseWrapper, table: str) -> bool:
    """Tell whether a table is there; before the first migration it is not."""
    with connection.cursor() as cursor:
        return table in connection.introspection.table_names(cursor)


def storage_view(storage: Storage) -> View:
    """Give the view of one storage's files, with the columns of the quickstart's table."""
    return View(
        name=storage.name,
        table="buffer_file",
        select=(
            "SELECT id, relpath, filename, checksum, size_bytes, added_on FROM buffer_file"
            f" WHERE storage_id = {storage.pk} AND stored_on IS NOT NULL"
        ),
    )


def before_migrate(using: str, **_: Any) -> None:
    """Drop the views of storages (signal handler)."""
    if existing(connections[using], "buffer_storage"):
        for name in names("buffer_storage", using):
            drop(name, "buffer_file", using)


def after_migrate(using: str, **_: Any) -> None:
    """Make the views of storages again (signal handler)."""
    if existing(connections[using], "buffer_storage"):
        for storage in Storage.objects.using(using).order_by("id"):
            ensure(storage_view(storage), using)


def names(table: str, using: str) -> Iterable[str]:
    """Names in a table of ours, read without its model, whose columns may be newer."""
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT name FROM {table} ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


def _definition(connection: BaseDatabaseWrapper, name: str) -> str | None:
    """Text of a view; '' for a table of that name, None if there is nothing."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) ELSE '' END"
                " FROM pg_class WHERE oid = to_regclass(quote_ident(%s))",
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
