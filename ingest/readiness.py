"""Whether everything that should run does: for load balancers and for whoever is on call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from django.db import Error

from buffer import database_ready, dialect, outages
from buffer.components import is_live
from buffer.engine_url import DatabaseError
from buffer.models import Component, ComponentKind
from buffer.problems import ConfigError

logger = logging.getLogger(__name__)

#: A command replaces workers that leave wake-ups waiting for a third of this; seconds.
CANARY_S: Final = 30.0
#: What was silent for longer is not expected back.
_FORGOTTEN_AFTER: Final = timedelta(days=1)
_EXPECTED: Final = (ComponentKind.FINDER, ComponentKind.INGESTER, ComponentKind.WORKERS)


def faults() -> dict[str, list[str]]:
    """Look at everything.

    Returns
    -------
    faults : `dict` [`str`, `list` [`str`]]
        What is wrong under "database", "migrations", "components" and "canary". Components are
        named by their ids: whoever asks may be anybody.
    """
    found: dict[str, list[str]] = {
        "database": [],
        "migrations": [],
        "components": [],
        "canary": [],
    }
    looks: dict[str, Callable[[], list[str]]] = {
        "database": _database,
        "migrations": _migrations,
        "components": _components,
        "canary": _canary,
    }
    for name, look in looks.items():
        try:
            found[name] = look()
        except (Error, DatabaseError) as error:
            logger.warning("not ready: %s", outages.reason(error))
            found[name] = ["cannot be looked at"] if name != "database" else ["does not answer"]
        if name == "database" and found[name]:
            # Nobody can tell about the rest.
            break
    return found


def _database() -> list[str]:
    dialect.clock()
    return []


def _migrations() -> list[str]:
    try:
        database_ready.require_migrated()
    except database_ready.NotNow:
        raise
    except ConfigError:
        return ["the tables are not those of this version: run manage.py migrate"]
    return []


def _running() -> list[Component]:
    """Give the runs that have begun last and were not stopped, of what should run."""
    now = dialect.clock()
    last: dict[tuple[str, str, str], Component] = {}
    rows = Component.objects.filter(kind__in=_EXPECTED, seen_on__gte=now - _FORGOTTEN_AFTER)
    for row in rows.defer("settings", "measures").order_by("id"):
        last[row.kind, row.host, row.subject] = row
    return [row for row in last.values() if row.stopped_on is None]


def _components() -> list[str]:
    now = dialect.clock()
    return [
        f"{row.kind} {row.pk} was not heard of for {(now - row.seen_on).total_seconds():.0f} s"
        for row in _running()
        if not is_live(row, now)
    ]


def _canary() -> list[str]:
    now = dialect.clock()
    return [
        f"workers of {row.kind} {row.pk} leave wake-ups waiting for {row.canary_s:.0f} s"
        for row in _running()
        if is_live(row, now) and (row.canary_s or 0.0) > CANARY_S
    ]
