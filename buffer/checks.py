"""System checks: what would otherwise be found out at the first file."""

from __future__ import annotations

import sqlite3
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

#: RETURNING, UPDATE FROM and JSON functions are used.
OLDEST_SQLITE = (3, 38, 0)


@register()
def database_is_supported(**_: Any) -> list[CheckMessage]:
    """Refuse databases that the claims and views are not written for."""
    engine = settings.DATABASES["default"]["ENGINE"]
    if engine == "django.db.backends.sqlite3" and sqlite3.sqlite_version_info < OLDEST_SQLITE:
        return [
            Error(
                f"SQLite {sqlite3.sqlite_version} is too old",
                hint="use a Python built with SQLite 3.38 or newer, or PostgreSQL",
                id="buffer.E001",
            )
        ]
    if engine not in ("django.db.backends.sqlite3", "django.db.backends.postgresql"):
        return [
            Error(
                f"the database engine {engine} is not supported",
                hint="set DATABASE_URL to a postgresql:// or sqlite:/// URL",
                id="buffer.E002",
            )
        ]
    return []


@register()
def webhook_can_be_used(**_: Any) -> list[CheckMessage]:
    """Refuse a webhook that cannot be posted to, or that nobody could tell from a forgery."""
    url, key = settings.ALERT_WEBHOOK, settings.ALERT_WEBHOOK_KEY
    if not url:
        return []
    if not url.startswith(("https://", "http://")):
        return [Error("ALERT_WEBHOOK is no http or https address", id="buffer.E003")]
    if not key:
        hint = "set ALERT_WEBHOOK_KEY, and give it to whoever receives the alerts"
        return [Error("ALERT_WEBHOOK is set without a key", hint=hint, id="buffer.E004")]
    return []
