"""What a finder asks the database: how often, and by which plans, beside many files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from django.db import connection
from django.utils import timezone

from buffer import dialect
from buffer.models import File, Refusal
from tests.buffer.conftest import Ground, cycle
from tests.plans import plans_of, scans

TRACKED = 50_000


def wide(plan: str) -> list[str]:
    """Give the parts of a plan that go through a storage area's files, or all of an index."""
    all_of_it = (
        r"Scan .*buffer_file\w*( \(storage_id = \d+\))?$"
        if dialect.is_postgres()
        else r"INDEX \w*buffer_file\w* \(storage_id=\?\)$"
    )
    return [part for part in plan.split("; ") if re.search(all_of_it, part)]


@pytest.fixture(params=[True, False], ids=["statistics", "no statistics"])
def many(ground: Ground, request: pytest.FixtureRequest) -> Iterator[Ground]:
    """A storage area that has many files, and many refusals of the past."""
    numbers = (
        "generate_series(1, %s) AS v(n)"
        if dialect.is_postgres()
        else "(WITH RECURSIVE v(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM v WHERE n < %s)"
        " SELECT n FROM v) AS v"
    )
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO buffer_file (storage_id, relpath, filename, checksum,"
            " checksum_algorithm, size_bytes, added_on, stored_on)"
            " SELECT %s, 'night' || (n / 1000), 'old' || n, 'c' || n, 'blake3', n, %s, %s"
            f" FROM {numbers}",
            [ground.storage.pk, now, now, TRACKED],
        )
        cursor.execute(
            "INSERT INTO buffer_refusal (storage_id, source, path, key, reason, detail, identity,"
            " checksum, first_seen, last_seen, times_seen, resolved_on, resolved_how, resolved_by)"
            " SELECT %s, 'x', 'p' || n, 'k' || n, 'EIO', '', '', '', %s, %s, 1, %s, '', ''"
            f" FROM {numbers}",
            [ground.storage.pk, now, now, now, TRACKED],
        )
        if request.param:
            cursor.execute("ANALYZE")
    yield ground
    with connection.cursor() as cursor:
        # PostgreSQL keeps the count of rows of a table, though the test is rolled back.
        File.objects.filter(checksum_algorithm="blake3", filename__startswith="old").delete()
        Refusal.objects.filter(source="x").delete()
        cursor.execute("ANALYZE")


def put(ground: Ground, night: str, count: int) -> None:
    for number in range(count):
        ground.put(f"{night}/{night}-{number}.fits", b"%d" % number)


def test_a_query_that_goes_through_all_files_is_seen(many: Ground) -> None:
    with plans_of("buffer_file") as plans:
        assert not File.objects.filter(source_identity="none").exists()
    assert [bool(scans(plan)) for plan in plans] == [True]


def test_a_query_that_goes_through_a_storage_area_is_seen(many: Ground) -> None:
    with plans_of("buffer_file") as plans:
        list(File.objects.filter(storage=many.storage).values_list("relpath"))
        File.objects.intents().filter(storage=many.storage).order_by("id").first()
        list(File.objects.filter(storage=many.storage, relpath="a", filename="b"))
    assert [bool(wide(plan) or scans(plan)) for plan in plans] == [True, True, False], plans


def test_no_query_goes_through_all_files(many: Ground) -> None:
    finder = many.finder()
    with plans_of("buffer_") as first:
        assert cycle(finder).quiet  # looks for what a crash has left
    assert len(first) > 2
    assert [plan for plan in first if scans(plan) and "buffer_decision" not in plan] == []
    put(many, "new", 20)
    many.put("night5/old5000", b"other content")  # a conflict
    with plans_of("buffer_") as plans:
        cycle(finder)
        many.put("again/new-1.fits", b"1")  # a duplicate
        os.unlink(many.source / "night5/old5000")
        cycle(finder)
    assert File.objects.count() == TRACKED + 20
    assert Refusal.objects.filter(source=str(many.source)).count() == 2
    assert len(plans) > 8
    # Decisions that stand are few, and all of them are read.
    assert [plan for plan in plans if scans(plan) and "buffer_decision" not in plan] == []
    assert [plan for plan in plans if wide(plan)] == []


def test_tracked_files_are_not_looked_for_among_all(many: Ground) -> None:
    (many.root / "night5").mkdir()
    (many.root / "night5" / "old5000").write_bytes(bytes(5000))
    finder = many.finder(source=str(many.root), actions={"standard": "Noop"})
    with plans_of("buffer_file") as plans:
        cycle(finder)
    assert plans
    assert [plan for plan in plans if scans(plan) or wide(plan)] == []


def test_what_people_decided_is_looked_for_among_what_stands(
    many: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buffer.decisions.REFRESH_S", 0.0)
    many.put("night5/old5000", b"other content")
    finder = many.finder()
    cycle(finder)
    Refusal.objects.unresolved().update(resolved_on=timezone.now())
    with plans_of("buffer_refusal") as plans:
        cycle(finder)
    assert Refusal.objects.unresolved().count() == 1, "it was looked at again"
    assert len(plans) > 2
    assert [plan for plan in plans if scans(plan)] == []


def test_queries_of_a_cycle_go_by_batches(ground: Ground) -> None:
    """As many for 200 files as for one."""
    counts = []
    finder = ground.finder()
    cycle(finder)  # looks for what a crash has left
    for files in (1, 200):
        put(ground, f"night{files}", files)
        with plans_of("buffer_") as queries:
            cycle(finder)
        counts.append(len(queries))
    # What they may collide with, the intents, what is stored, what is released.
    assert counts == [4, 4]
    assert File.objects.stored().count() == 201


def test_an_idle_cycle_asks_nothing(ground: Ground) -> None:
    for number in range(50):
        ground.put(f"bad\x01{number}")
    finder = ground.finder()
    cycle(finder)
    assert Refusal.objects.count() == 50
    with plans_of("buffer_") as queries:
        assert cycle(finder).quiet
    assert queries == []
