"""Database URLs, as Django projects and SQLAlchemy write them, taken apart."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

from buffer.names import escape
from buffer.problems import ConfigError
from buffer.redaction import HIDDEN, redact

POSTGRESQL_PORT = 5432
IN_MEMORY = ":memory:"

# The grammar is SQLAlchemy's (an unencoded password may hold / and #), because the engine URLs
# of the older system were written for it.
_URL = re.compile(
    r"""
    (?P<scheme>[A-Za-z][\w+]*)://
    (?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?
    (?:(?:\[(?P<host6>[^/?\]]+)\]|(?P<host>[^/:?]+))?(?::(?P<port>[^/?]*))?)?
    (?:/(?P<name>[^?]*))?
    (?:\?(?P<query>.*))?
    """,
    re.VERBOSE | re.DOTALL,
)
_FORMS = "expected postgresql://user:password@host:port/name or sqlite:///path"
# Options that SQLAlchemy hands to sqlite3.connect and that mean nothing here.
_SQLITE_IGNORED = {"check_same_thread", "cached_statements", "detect_types", "isolation_level"}


class DatabaseError(ConfigError):
    """The database cannot be used as configured, or not yet; never holds a secret."""


@dataclass(frozen=True, slots=True)
class EngineUrl:
    """A database URL taken apart, with what is left out filled in.

    Two URLs that mean the same database compare equal, however they are written.
    """

    vendor: Literal["postgresql", "sqlite"]
    name: str
    user: str = ""
    password: str = field(default="", repr=False)
    host: str = ""
    port: int | None = None
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Give the URL as it may be shown: without its password."""
        if self.vendor == "sqlite":
            return f"sqlite:///{escape(self.name)}"
        login = quote(self.user) + (f":{HIDDEN}" if self.password else "")
        host = f"[{self.host}]" if ":" in self.host else quote(self.host)
        port = f":{self.port}" if self.port else ""
        query = f"?{urlencode(self.options)}" if self.options else ""
        at = "@" if login else ""
        return redact(f"postgresql://{login}{at}{host}{port}/{quote(self.name)}{query}")

    def differences(self, other: EngineUrl) -> list[str]:
        """Name the parts that differ from ``other``, without their values."""
        names = {"vendor": "kind", "name": "database", "options": "options"}
        return [
            names.get(part, part)
            for part in ("vendor", "host", "port", "name", "user", "password", "options")
            if getattr(self, part) != getattr(other, part)
        ]


def parse(url: str) -> EngineUrl:
    """Take an engine URL apart.

    Parameters
    ----------
    url : `str`
        ``postgres://``, ``postgresql://``, ``postgresql+psycopg2://`` (any driver) or
        ``sqlite:///path``; three slashes are a path relative to the working directory, four an
        absolute one.

    Returns
    -------
    parsed : `EngineUrl`
        The parts, percent-decoded.

    Raises
    ------
    DatabaseError
        The URL is not understood. The message holds no part of it that could be a secret.
    """
    match = _URL.fullmatch(url.strip())
    if match is None:
        raise DatabaseError(f"not a database URL: {_FORMS}")
    scheme = match["scheme"].lower()
    dialect = scheme.partition("+")[0]
    try:
        if dialect == "sqlite":
            return _sqlite(match)
        if dialect in ("postgres", "postgresql"):
            return _postgresql(match)
    except UnicodeDecodeError:
        raise DatabaseError("not a database URL: its percent-encoding is not UTF-8") from None
    raise DatabaseError(f"databases of the kind {scheme!r} are not supported: {_FORMS}")


def _decode(text: str | None) -> str:
    return unquote(text or "", errors="strict")


def _sqlite(match: re.Match[str]) -> EngineUrl:
    if match["host"] or match["host6"] or match["user"] or match["password"]:
        raise DatabaseError(
            "sqlite:// is followed by a third slash and the path: sqlite:///relative/path or "
            "sqlite:////absolute/path"
        )
    options = {}
    for key, value in parse_qsl(match["query"] or "", keep_blank_values=True):
        if key == "timeout":
            if not re.fullmatch(r"\d+(\.\d*)?", value):
                raise DatabaseError("timeout in the URL: expected a number of seconds")
            options[key] = value
        elif key not in _SQLITE_IGNORED:
            raise DatabaseError(f"option {key!r} of an sqlite URL is not supported")
    name = _decode(match["name"])
    if name in ("", IN_MEMORY):
        return EngineUrl("sqlite", IN_MEMORY, options=tuple(sorted(options.items())))
    if name.startswith("file:"):
        raise DatabaseError("SQLite's file: addresses are not supported: give a path")
    if "\0" in name:
        raise DatabaseError("the path of the database holds a NUL character")
    # Absolute at once: workers may run in another directory.
    return EngineUrl("sqlite", os.path.abspath(name), options=tuple(sorted(options.items())))


def _postgresql(match: re.Match[str]) -> EngineUrl:
    host = _decode(match["host6"] or match["host"])
    # Seen after the first @, this is part of a password that was not encoded.
    if any("@" in (match[part] or "") for part in ("host6", "host", "port", "name")):
        raise DatabaseError(
            "more than one @ before the host: write @ as %40 in the password "
            "(and : as %3A, / as %2F, % as %25)"
        )
    parts = {
        "host": host,
        "port": match["port"] or "",
        "dbname": _decode(match["name"]),
        "user": _decode(match["user"]),
        "password": _decode(match["password"]),
    }
    options: dict[str, str] = {}
    for key, value in parse_qsl(match["query"] or "", keep_blank_values=True):
        into = parts if key in parts else options
        into[key] = value
    if any("\0" in value for value in (*parts.values(), *options.values())):
        raise DatabaseError("the URL holds a NUL character")
    port = parts["port"] or str(POSTGRESQL_PORT)
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise DatabaseError("the port is not a number from 1 to 65535")
    name = parts["dbname"] or parts["user"]
    if not name:
        raise DatabaseError(f"the URL names no database: {_FORMS}")
    return EngineUrl(
        "postgresql",
        name,
        user=parts["user"],
        password=parts["password"],
        host=parts["host"],
        port=int(port),
        options=tuple(sorted(options.items())),
    )
