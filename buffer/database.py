"""Which database: engine URLs become Django's connection settings.

`settings_for` is what ``endpoint_site.settings`` calls, so nothing here may need Django to be set
up at import time.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from buffer.engine_url import IN_MEMORY, POSTGRESQL_PORT, DatabaseError, EngineUrl, parse
from buffer.names import escape
from buffer.redaction import redact

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from buffer.sections import Database

__all__ = [
    "DatabaseError",
    "EngineUrl",
    "check",
    "describe",
    "parse",
    "settings_for",
    "use",
]

sql_logger = logging.getLogger("buffer.database.sql")

ENVIRONMENT_VARIABLE = "DATABASE_URL"
# A server whose host has vanished sends nothing at all, not even an end of the connection: its
# kernel's silence must tell, within some 25 s, before a claim's lease (30 s) lapses.
POSTGRESQL_OPTIONS = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
SQLITE_TIMEOUT_S = 30.0
MAX_LOGGED_PARAMETERS = 2000


def settings_for(
    url: str, *, schema: str | Iterable[str] | None = None, persistent: bool = True
) -> dict[str, Any]:
    """Build Django's settings of one database.

    Parameters
    ----------
    url : `str`
        See `parse`.
    schema : `str` or `~collections.abc.Iterable` [`str`], optional
        PostgreSQL schemas that go before ``public`` in the search path.
    persistent : `bool`, optional
        Whether connections are kept between units of work.

    Returns
    -------
    settings : `dict`
        A value for ``DATABASES``.

    Raises
    ------
    DatabaseError
        The URL is not understood, or names a kind of database without schemas while one is asked
        for.
    """
    parsed = parse(url)
    schemas = [schema] if isinstance(schema, str) else list(schema or ())
    max_age = None if persistent else 0
    if parsed.vendor == "sqlite":
        if schemas:
            raise DatabaseError("SQLite has no schemas: leave the schema out")
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": parsed.name,
            "CONN_MAX_AGE": max_age,
            "OPTIONS": {
                "timeout": float(dict(parsed.options).get("timeout", SQLITE_TIMEOUT_S)),
                # A transaction that begins as a reader and turns writer fails at once when
                # another wrote in between, whatever the timeout; so each begins as a writer.
                "transaction_mode": "IMMEDIATE",
                # FULL: a committed intent must survive a power cut.
                "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;",
            },
        }
    options: dict[str, Any] = {**POSTGRESQL_OPTIONS, **dict(parsed.options)}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parsed.name,
        "USER": parsed.user,
        "PASSWORD": parsed.password,
        "HOST": parsed.host,
        "PORT": str(parsed.port),
        "CONN_MAX_AGE": max_age,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": _with_search_path(options, schemas),
    }


def _with_search_path(options: Mapping[str, Any], schemas: Iterable[str]) -> dict[str, Any]:
    """Add a search path to the options of a PostgreSQL connection."""
    names = ['"' + name.replace('"', '""') + '"' for name in dict.fromkeys(schemas)]
    if not names:
        return dict(options)
    # As a start option rather than a statement: it holds for every connection that any process
    # makes, and costs no query. The server splits these at spaces and takes \ as an escape.
    path = re.sub(r"([\\ ])", r"\\\1", ",".join([*names, "public"]))
    before = str(options.get("options", ""))
    return {**options, "options": f"{before} -c search_path={path}".strip()}


_given_by_us: str | None = None


def check(section: Database) -> list[str]:
    """Tell what is wrong with a ``database`` section, the environment considered.

    Nothing is connected to.

    Returns
    -------
    problems : `list` [`str`]
        Lines that name the key; empty if all is well.
    """
    engine = section.engine.get_secret_value() if section.engine else None
    given = os.environ.get(ENVIRONMENT_VARIABLE) or None
    problems: list[str] = []
    ours = theirs = None
    if engine is not None:
        try:
            ours = parse(engine)
        except DatabaseError as error:
            problems.append(f"database.engine: {error}")
    if given is not None:
        try:
            theirs = parse(given)
        except DatabaseError as error:
            problems.append(f"{ENVIRONMENT_VARIABLE} in the environment: {error}")
    if ours is not None and ours.name == IN_MEMORY:
        problems.append("database.engine: a database in memory cannot be shared with workers")
    if ours is not None and theirs is not None and given != _given_by_us:
        parts = ours.differences(theirs)
        if parts:
            problems.append(
                f"database.engine: {ours} and {ENVIRONMENT_VARIABLE} in the environment, {theirs}, "
                f"differ ({', '.join(parts)}): make them the same or remove one of them"
            )
    chosen = ours or theirs
    if chosen is not None and chosen.vendor == "sqlite" and section.schemas:
        problems.append("database.tablenames: SQLite has no schemas: leave schema out")
    return problems


def use(section: Database) -> None:
    """Make the ``database`` section the default database of this process and its children.

    Call it before anything is read from the database and before workers are started.

    Parameters
    ----------
    section : `buffer.sections.Database`
        The section of a component's YAML file.

    Raises
    ------
    DatabaseError
        The section contradicts the environment, or the database cannot do what it asks for.
    """
    global _given_by_us
    from django.db import connections

    problems = check(section)
    if problems:
        raise DatabaseError(problems)
    persistent = section.pool_class != "NullPool"
    current = connections.settings["default"]
    engine = section.engine.get_secret_value() if section.engine else None
    given = os.environ.get(ENVIRONMENT_VARIABLE) or None
    if engine is not None and (given is None or parse(given).differences(parse(engine))):
        wanted = settings_for(engine, schema=section.schemas, persistent=persistent)
        _given_by_us = _absolute(engine)
        os.environ[ENVIRONMENT_VARIABLE] = _given_by_us
    else:
        # Django's settings are those of the environment already: only what the section adds.
        wanted = {"OPTIONS": dict(current["OPTIONS"])}
        if section.schemas:
            if "postgresql" not in current["ENGINE"]:
                raise DatabaseError("database.tablenames: SQLite has no schemas: leave schema out")
            wanted["OPTIONS"] = _with_search_path(current["OPTIONS"], section.schemas)
        if not persistent:
            wanted["CONN_MAX_AGE"] = 0
    _switch(wanted)
    _log_statements(section.echo)


def _absolute(url: str) -> str:
    """Give a URL that means the same in another working directory."""
    parsed = parse(url)
    if parsed.vendor == "postgresql":
        return url
    query = f"?{urlencode(parsed.options)}" if parsed.options else ""
    return f"sqlite:///{quote(parsed.name)}{query}"


def _switch(wanted: Mapping[str, Any]) -> None:
    """Give the default connection other settings, if they are others."""
    from django.conf import settings
    from django.db import connections
    from django.db.utils import ConnectionHandler

    current = connections.settings["default"]
    if all(current.get(key) == value for key, value in wanted.items()):
        return
    reconnect = any(current.get(key) != wanted[key] for key in wanted if key != "CONN_MAX_AGE")
    if not reconnect:
        current.update(wanted)
        return
    base = {"TEST": current["TEST"]} if "ENGINE" in wanted else dict(current)
    complete = ConnectionHandler({"default": {**base, **wanted}}).settings["default"]
    connections["default"].close()
    # The wrapper is of the old kind of database; the next use makes one of the new kind.
    del connections["default"]
    connections.settings["default"] = complete
    settings.DATABASES["default"] = complete


def _log_statements(wanted: bool) -> None:
    """Log every SQL statement of this process and its children from now on, or stop doing so."""
    from django.db import connections
    from django.db.backends.signals import connection_created

    if wanted:
        connection_created.connect(_install, dispatch_uid="buffer.database.echo")
    else:
        connection_created.disconnect(dispatch_uid="buffer.database.echo")
    connection = connections["default"]
    if wanted:
        _install(connection=connection)
    elif _log_statement in connection.execute_wrappers:
        connection.execute_wrappers.remove(_log_statement)


def _install(*, connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    if _log_statement not in connection.execute_wrappers:
        connection.execute_wrappers.append(_log_statement)


def _log_statement(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Mapping[str, Any]
) -> Any:
    begun = time.monotonic()
    try:
        return execute(sql, params, many, context)
    finally:
        shown = redact(repr(params))
        if len(shown) > MAX_LOGGED_PARAMETERS:
            shown = f"{shown[:MAX_LOGGED_PARAMETERS]}..."
        sql_logger.info("%.4f s: %s; %s", time.monotonic() - begun, redact(str(sql)), shown)


def describe() -> str:
    """Name the database in use as it may be shown, without its password."""
    from django.db import connections

    current = connections.settings["default"]
    if "sqlite" in current["ENGINE"]:
        return f"SQLite {escape(current['NAME'])}"
    host = current["HOST"] or "the local socket"
    return escape(
        f"PostgreSQL {current['NAME']} on {host}:{current['PORT'] or POSTGRESQL_PORT} "
        f"as {current['USER'] or 'the current user'}"
    )
