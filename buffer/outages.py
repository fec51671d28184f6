"""A database that cannot be used for a while: what counts as that, and how a process says so.

Everything that runs for long goes on trying; so the log gets a line when it is gone, one a minute
while it is, and one when it is back, however many statements failed meanwhile.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from django.db import InterfaceError, InternalError, OperationalError, connection

logger = logging.getLogger(__name__)

#: Not the fault of what was asked. InternalError: PostgreSQL is read-only, after a failover say.
UNAVAILABLE: Final = (OperationalError, InterfaceError, InternalError)
REMIND_S: Final = 60.0

_since: float | None = None
_said = 0.0


def away(error: Exception) -> None:
    """Note that the database cannot be used now, and let go of a connection that is of no use."""
    global _since, _said
    now = time.monotonic()
    if _since is None or now - _said >= REMIND_S:
        _said = now
        logger.warning("the database cannot be used, trying again: %s", reason(error))
    _since = _since or now
    connection.close_if_unusable_or_obsolete()


def answers() -> None:
    """Note that the database can be used."""
    global _since
    if _since is not None:
        logger.warning("the database can be used again, after %.0f s", time.monotonic() - _since)
        _since = None


def reason(error: Exception) -> str:
    """Give an error of the database in one line."""
    return " ".join(str(error).split()) or type(error).__name__
