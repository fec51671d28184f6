"""What an exception means: worth another try or not, and in which words."""

from __future__ import annotations

import sqlite3

from sqlalchemy import exc as sa_exc

from buffer.names import escape
from ingest.plugins.troubles import chain, is_machine_trouble

MESSAGE_LIMIT = 500
"""Characters of somebody else's error text that are kept."""

_DATABASE_TROUBLE = (
    sa_exc.OperationalError,
    sa_exc.InterfaceError,
    sa_exc.TimeoutError,
    sqlite3.OperationalError,
)


def is_database_trouble(error: BaseException) -> bool:
    """Tell whether the repository's database was busy, full or out of reach."""
    return any(
        isinstance(link, _DATABASE_TROUBLE)
        or (isinstance(link, sa_exc.DBAPIError) and link.connection_invalidated)
        for link in chain(error)
    )


def is_transient(error: BaseException) -> bool:
    """Tell whether the same file may well be ingested when it is tried again later.

    Parameters
    ----------
    error : `BaseException`
        What was raised; its causes count as well, since libraries wrap them.

    Returns
    -------
    transient : `bool`
        `True` for trouble with the database, the disk, memory or the network.  A bad header, an
        unknown filter or a conflict stays what it is.
    """
    if is_database_trouble(error):
        return True
    return any(is_machine_trouble(link) for link in chain(error))


def describe(error: BaseException) -> str:
    """Put an exception into one printable line of bounded length."""
    # A KeyError's text is the repr of its argument, quotes and all.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = escape(" ".join(text.split()))
    if len(text) > MESSAGE_LIMIT:
        text = text[: MESSAGE_LIMIT - 4] + " ..."
    name = type(error).__name__
    return f"{name}: {text}" if text else name
