"""Counts that cost the same however many rows there are: exact up to a cap, and a guess beyond."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from django.db import connection
from django.db.models import Model, QuerySet

AnyModel = TypeVar("AnyModel", bound=Model)

#: Up to here rows are counted one by one.
CAP: Final = 10_000


class AtLeast(int):
    """A count that was given up at some number."""

    def __str__(self) -> str:
        return f"more than {int(self)}"


class About(int):
    """A count that the database guessed, to two digits."""

    def __str__(self) -> str:
        return f"about {int(self)}"


def counted(rows: QuerySet[Any], cap: int = CAP) -> int:
    """Count rows, exactly if they are few.

    Parameters
    ----------
    rows : `~django.db.models.QuerySet`
        What to count. It must be cheap to find the first `cap` of them: have an index.
    cap : `int`, optional
        Where counting ends.

    Returns
    -------
    count : `int`
        Exact, or an `About` or `AtLeast`, which says so when it is shown.
    """
    rows = rows.order_by()
    count = rows[: cap + 1].count()
    if count <= cap:
        return count
    guess = _planned(rows)
    return AtLeast(cap) if guess <= cap else About(float(f"{guess:.2g}"))


def total(counts: Iterable[int]) -> int:
    """Add counts up; the sum is as sure as the least sure of them."""
    counts = list(counts)
    for kind in (AtLeast, About):
        if any(isinstance(count, kind) for count in counts):
            return kind(sum(counts))
    return sum(counts)


def first_of(rows: QuerySet[AnyModel], cap: int = CAP) -> QuerySet[AnyModel]:
    """Give the first rows of a sorted query in a form that can be grouped and filtered."""
    return rows.model._default_manager.filter(pk__in=rows.values("pk")[:cap])


def _planned(rows: QuerySet[Any]) -> int:
    """Ask the planner for how many rows it expects; 0 where it does not say."""
    if connection.vendor != "postgresql":
        return 0
    (plan,) = json.loads(rows.explain(format="json"))
    return int(plan["Plan"]["Plan Rows"])
