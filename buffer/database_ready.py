"""Whether the database can be worked with: it answers, and its tables are those of this code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from buffer import database
from buffer.engine_url import DatabaseError
from buffer.redaction import redact

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.migrations.loader import MigrationLoader

# What PostgreSQL says of itself when it will be there in a moment, and a name server of a host.
_PASSING = re.compile(
    r"starting up|shutting down|recovery mode|too many|remaining connection slots|not yet accepting"
    r"|connection limit"
)


class NotNow(DatabaseError):
    """The database cannot be reached now; nothing is wrong with the configuration."""


def require_migrated() -> None:
    """Refuse a database that cannot be reached or whose tables are not those of this code.

    Raises
    ------
    DatabaseError
        Says what is wrong and what to run.
    """
    from django.db import connections
    from django.db.migrations.exceptions import (
        BadMigrationError,
        InconsistentMigrationHistory,
        NodeNotFoundError,
    )
    from django.db.migrations.recorder import MigrationRecorder
    from django.db.utils import Error

    connection = connections["default"]
    _require_reachable(connection)
    _require_schemas(connection)
    try:
        loader = _on_disk()
        loader.check_consistent_history(connection)
        applied = set(MigrationRecorder(connection).applied_migrations())
    except Error as error:
        kind = NotNow if _is_passing(connection, error) else DatabaseError
        raise kind(_unreachable(error)) from error
    except (InconsistentMigrationHistory, BadMigrationError, NodeNotFoundError) as error:
        raise DatabaseError(
            f"database {database.describe()}: its migrations do not fit this version: {error}"
        ) from error
    replaced = {key: set(one.replaces) for key, one in loader.disk_migrations.items()}
    known = set(replaced).union(*replaced.values())
    unknown = sorted(key for key in applied - known if key[0] in loader.migrated_apps)
    missing = [
        key
        for key in loader.graph.nodes
        # One that sums up others is applied if all of them are.
        if key not in applied and not (replaced[key] and replaced[key] <= applied)
    ]
    problems = []
    if unknown:
        problems.append(
            f"database {database.describe()}: was migrated by a newer version "
            f"({_some('.'.join(key) for key in unknown)} unknown here): update this installation"
        )
    if missing:
        names = _some(f"{app}.{name}" for app, name in missing)
        problems.append(
            f"database {database.describe()}: {len(missing)} migrations are not applied ({names}): "
            f"run `manage.py migrate` with {database.ENVIRONMENT_VARIABLE} set to this database"
        )
    if problems:
        raise DatabaseError(problems)


@cache
def _on_disk() -> MigrationLoader:
    """Read the migrations of this code, which stay the same while a process lives."""
    from django.db.migrations.loader import MigrationLoader

    return MigrationLoader(None)


def _require_reachable(connection: BaseDatabaseWrapper) -> None:
    from django.core.exceptions import ImproperlyConfigured
    from django.db.utils import Error

    if connection.vendor == "sqlite":
        name = os.fspath(connection.settings_dict["NAME"])
        # Connecting would make an empty file, which looks like a database that was emptied.
        if os.path.isabs(name) and not os.path.exists(name):
            raise DatabaseError(
                f"database {database.describe()}: there is no such file: run `manage.py migrate` "
                f"with {database.ENVIRONMENT_VARIABLE} set to this database to make it"
            )
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (Error, ImproperlyConfigured) as error:
        kind = NotNow if _is_passing(connection, error) else DatabaseError
        raise kind(_unreachable(error)) from error


def _is_passing(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Tell a server that is not there just now from one that refuses what we ask for."""
    from django.db.utils import OperationalError

    if not isinstance(error, OperationalError):
        return False
    if connection.vendor == "sqlite":
        return "locked" in str(error)
    # "FATAL" begins what the server itself says: a wrong password, no such database.
    return "FATAL" not in str(error) or _PASSING.search(str(error)) is not None


def _require_schemas(connection: BaseDatabaseWrapper) -> None:
    """Refuse schemas that are not there: PostgreSQL passes over them without a word."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM unnest(string_to_array(current_setting('search_path'), ',')) AS name"
        )
        wanted = [name.strip().strip('"') for (name,) in cursor.fetchall()]
        cursor.execute("SELECT nspname FROM pg_namespace")
        there = {name for (name,) in cursor.fetchall()}
    gone = [name for name in wanted if name not in there and name not in ("$user", "public", "")]
    if gone:
        raise DatabaseError(
            f"database {database.describe()}: there is no schema {_some(gone)} "
            "(database.tablenames.*.schema): create it, or correct the name"
        )


def _unreachable(error: Exception) -> str:
    cause = redact(" ".join(str(error).split()))
    return f"database {database.describe()}: cannot be used: {cause}"


def _some(names: Iterable[str], limit: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
