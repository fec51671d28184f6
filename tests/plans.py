"""How SQLite goes about a query; its planner knows no sizes, so that an empty database will do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection


@contextmanager
def plans_of(word: str) -> Iterator[list[str]]:
    """Collect the plans of the queries with a word in them, while something is done.

    Yields
    ------
    plans
        One text for each, with all that is searched or scanned.
    """
    plans: list[str] = []

    def explain(execute: Callable[..., Any], sql: str, params: Any, *others: Any) -> Any:
        if word in sql and not sql.startswith("EXPLAIN"):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
                plans.append("; ".join(row[3] for row in cursor.fetchall()))
        return execute(sql, params, *others)

    with connection.execute_wrapper(explain):
        yield plans
