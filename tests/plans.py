"""How a database goes about the queries that something runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection


@contextmanager
def plans_of(word: str) -> Iterator[list[str]]:
    """Collect the plans of the queries with a word in them, while something is done.

    SQLite's planner knows no sizes, so that an empty database will do; PostgreSQL's goes by the
    table's statistics: fill it, and ``ANALYZE`` it.

    Yields
    ------
    plans
        One text for each, with all that is searched or scanned.
    """
    plans: list[str] = []

    def explain(execute: Callable[..., Any], sql: str, params: Any, *others: Any) -> Any:
        if word in sql and not sql.startswith("EXPLAIN"):
            plans.append(_explain(sql, params))
        return execute(sql, params, *others)

    with connection.execute_wrapper(explain):
        yield plans


def scans(plan: str) -> list[str]:
    """Give the parts of a plan that go through a whole table or index of files."""
    return [
        part
        for part in plan.split("; ")
        if "buffer_" in part and part.startswith(("SCAN", "Seq Scan", "Parallel Seq Scan"))
    ]


def _explain(sql: str, params: Any) -> str:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
            return "; ".join(row[3] for row in cursor.fetchall())
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
        (found,) = cursor.fetchone()
    (top,) = json.loads(found) if isinstance(found, str) else found
    return "; ".join(_nodes(top["Plan"]))


def _nodes(node: dict[str, Any]) -> Iterator[str]:
    on = node.get("Relation Name", node.get("Index Name", ""))
    index = node.get("Index Name", "")
    condition = node.get("Index Cond", node.get("Recheck Cond", ""))
    yield " ".join(filter(None, [node["Node Type"], on, index, condition]))
    for below in node.get("Plans", ()):
        yield from _nodes(below)
