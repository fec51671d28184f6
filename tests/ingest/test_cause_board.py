"""Failures by cause: what is counted, and that it stays small."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from buffer.models import File
from ingest import cause_board, ignoring
from ingest.cause_board import PAGE
from ingest.models import IgnoredCause, Ingester, Ingestion
from ingest.overview import overview
from ingest.statuses import Status
from tests.ingest.desk import tried
from tests.plans import plans_of

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


def test_messages_of_one_cause_are_one_row(ingester: Ingester, make_file: MakeFile) -> None:
    rows = [tried(ingester, make_file(), f"no flat of {n}", hours_ago=n) for n in (30, 2, 0)]
    tried(ingester, make_file(), "gone", Status.INVALID)
    tried(ingester, make_file(), "worker lost", Status.UNKNOWN)
    tried(ingester, make_file(), "", Status.SUCCESS)
    tried(ingester, make_file(), "not wanted", Status.IGNORED)
    found = cause_board.causes(ingester.pk)
    assert (found.causes, found.files) == (3, 5)
    assert [(row.cause, row.count) for row in found.rows] == [
        ("no flat of <n>", 3),
        ("gone", 1),
        ("worker lost", 1),
    ]
    (first, *_) = found.rows
    assert (first.first, first.last) == (rows[0].changed_on, rows[2].changed_on)
    assert first.last_day == 2 and first.hours[-1] == 1 and sum(first.hours[-4:]) == 2
    assert [file.pk for file in first.examples] == [rows[0].file_id, rows[2].file_id]


def test_other_ingesters_have_their_own(ingester: Ingester, make_file: MakeFile) -> None:
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    tried(other, make_file())
    assert cause_board.causes(ingester.pk).rows == []
    assert cause_board.needing_a_person() == {other.pk: (1, 1)}


def test_an_ignored_cause_calls_for_nobody(ingester: Ingester, make_file: MakeFile) -> None:
    tried(ingester, make_file(), "bad header")
    tried(ingester, make_file(), "no flat")
    assert ignoring.ignore(ingester, "bad header", user="ann", note="known")
    assert [row.cause for row in cause_board.causes(ingester.pk).rows] == ["no flat"]
    (hidden,) = cause_board.causes(ingester.pk, ignored=True).rows
    assert hidden.ignored is not None and hidden.ignored.note == "known"
    assert cause_board.needing_a_person() == {ingester.pk: (1, 1)}
    (state,) = overview().ingesters
    assert (state.failed, state.ignored) == (1, 1)
    assert ignoring.take_back(ingester, "bad header", user="bob")
    assert cause_board.needing_a_person() == {ingester.pk: (2, 2)}
    (kept,) = IgnoredCause.objects.all()
    assert (kept.ignored_by, kept.taken_back_by) == ("ann", "bob")


def test_it_is_ignored_once(ingester: Ingester) -> None:
    assert ignoring.ignore(ingester, "c", user="ann", note="a")
    assert not ignoring.ignore(ingester, "c", user="bob", note="b")
    assert ignoring.take_back(ingester, "c", user="ann")
    assert not ignoring.take_back(ingester, "c", user="ann")
    assert ignoring.ignore(ingester, "c", user="bob", note="b")
    standing = ignoring.decision(ingester, "c")
    assert standing is not None and standing.ignored_by == "bob"


def test_ten_thousand_causes(ingester: Ingester, make_file: MakeFile) -> None:
    file = make_file()
    File.objects.bulk_create(
        File(storage=file.storage, filename=f"{n}", checksum="c", checksum_algorithm="md5",
             size_bytes=1) for n in range(10_000)
    )  # fmt: skip
    Ingestion.objects.bulk_create(
        Ingestion(file_id=pk, ingester=ingester, status=Status.FAILURE, cause=f"word-{pk % 9999}")
        for pk in File.objects.exclude(pk=file.pk).values_list("pk", flat=True)
    )
    with CaptureQueriesContext(
        connection,
    ) as queries:
        found = cause_board.causes(ingester.pk)
    assert (found.causes, found.files, found.pages) == (9999, 10_000, 400)
    assert len(found.rows) == PAGE and found.rows[0].count == 2
    assert len(queries) <= 6
    last = cause_board.causes(ingester.pk, number=400)
    assert len(last.rows) == 9999 - 399 * PAGE
    # Beyond the last page there is the first.
    assert cause_board.causes(ingester.pk, number=500).number == 1
    searched = cause_board.causes(ingester.pk, containing="WORD-77")
    assert 1 < searched.causes < 200


@pytest.mark.skipif("connection.vendor != 'sqlite'")
def test_only_failures_are_read(ingester: Ingester, make_file: MakeFile) -> None:
    tried(ingester, make_file())
    ignoring.ignore(ingester, "x", user="ann", note="n")
    with plans_of("ingest_ingestion") as plans:
        cause_board.causes(ingester.pk)
        cause_board.causes(ingester.pk, ignored=True)
        cause_board.one_cause(ingester.pk, "no flat of <n>")
        cause_board.needing_a_person()
        cause_board.examples(ingester.pk, "no flat of <n>", 5)
    assert len(plans) >= 7
    for plan in plans:
        # Either holds nothing but failures.
        assert "ingest_ingestion_causes" in plan or "ingest_ingestion_listed" in plan, plan
