"""The product of the system tests, to be hurt."""

from __future__ import annotations

from tests.system.conftest import (
    database,
    postgresql_database,
    postgresql_server,
    postgresql_template,
    product,
    product_on_sqlite,
    sqlite_database,
    sqlite_template,
)

__all__ = [
    "database",
    "postgresql_database",
    "postgresql_server",
    "postgresql_template",
    "product",
    "product_on_sqlite",
    "sqlite_database",
    "sqlite_template",
]
