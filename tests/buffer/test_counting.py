"""Counts that end at a cap."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection

from buffer import counting
from buffer.counting import About, AtLeast, counted, first_of, total
from buffer.models import File

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


def test_few_are_counted_and_many_are_guessed(
    make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(12):
        make_file()
    exact = counted(File.objects.order_by("filename"), 12)
    assert (exact, type(exact)) == (12, int)
    # Too few rows for the planner to know of them.
    monkeypatch.setattr(counting, "_planned", lambda rows: 0)
    assert str(counted(File.objects.all(), 5)) == "more than 5"
    monkeypatch.setattr(counting, "_planned", lambda rows: 123_456)
    assert str(counted(File.objects.all(), 5)) == "about 120000"


def test_the_planner_is_asked(make_file: MakeFile) -> None:
    for _ in range(300):
        make_file()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    guess = counted(File.objects.filter(size_bytes__gte=0), 20)
    if connection.vendor == "postgresql":
        assert str(guess) == "about 300"
    else:
        assert str(guess) == "more than 20"


def test_a_sum_is_as_sure_as_its_least_sure_part() -> None:
    assert type(total([1, 2])) is int
    assert str(total([1, About(20)])) == "about 21"
    assert str(total([1, About(20), AtLeast(5)])) == "more than 26"


def test_the_first_of_many_can_be_grouped(make_file: MakeFile) -> None:
    files = [make_file(size_bytes=n) for n in (1, 1, 2, 3)]
    rows = first_of(File.objects.order_by("pk"), 3)
    assert set(rows) == set(files[:3])
    assert sorted(rows.values_list("size_bytes").distinct()) == [(1,), (2,)]
