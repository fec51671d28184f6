"""Archiving old events by the statements of docs/scaling.md: the present does not notice."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from buffer.models import File
from ingest import claims, rerun, transitions
from ingest.claims import Lane
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.statuses import Status
from ingest.transitions import Step

pytestmark = pytest.mark.django_db

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
_, ARCHIVE = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def archive(upto: int) -> None:
    """Run the page's statements, its slice of ids replaced."""
    statements = ARCHIVE.replace("BETWEEN 1 AND 100000", f"BETWEEN 1 AND {upto}").split(";\n")
    with connection.cursor() as cursor:
        for statement in filter(str.strip, statements):
            cursor.execute(statement)


def attempt(ingester: Ingester, lane: Lane, status: Status, message: str = "") -> None:
    claim = claims.claim(ingester.pk, [lane], 100, "worker")
    assert claim is not None
    for was, to in ((lane.status, Status.PENDING), (Status.PENDING, status)):
        steps = [
            Step(row.ingestion_id, row.file_id, was, claim.token, to, 1,
                 keep=to == Status.PENDING, message="" if to == Status.PENDING else message)
            for row in claim.files
        ]  # fmt: skip
        assert len(transitions.apply(ingester.pk, steps)) == len(claim.files)


def present() -> list[tuple[object, ...]]:
    return list(Ingestion.objects.order_by("id").values_list())


def test_the_present_stays(ingester: Ingester, make_file: Callable[..., File]) -> None:
    files = [make_file() for _ in range(3)]
    transitions.create(ingester.pk, [file.pk for file in files[:2]], Status.UNTRIED)
    attempt(ingester, Lane(Status.UNTRIED), Status.FAILURE, "no flats")
    transitions.create(ingester.pk, [files[2].pk], Status.UNTRIED)
    before, events = present(), FileEvent.objects.count()
    assert events == 7

    newest = FileEvent.objects.latest("id").pk
    for _ in range(2):  # the second time there is nothing left to move
        archive(newest)
        assert present() == before
        # The newest of each file: two failures with their messages, and one that waits.
        assert sorted(FileEvent.objects.values_list("status", "err_message")) == [
            ("FAILURE", "no flats"),
            ("FAILURE", "no flats"),
            ("UNTRIED", ""),
        ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), count(DISTINCT id) FROM archived_fileevent")
        assert cursor.fetchone() == (events - 3, events - 3)

    # Everything goes on: what waits is claimed, what failed is tried again, ids go on growing.
    attempt(ingester, Lane(Status.UNTRIED), Status.SUCCESS)
    assert rerun.rerun(Ingestion.objects.filter(status=Status.FAILURE), user="me").asked == 2
    attempt(ingester, Lane(Status.RERUN), Status.SUCCESS)
    assert set(Ingestion.objects.values_list("status", flat=True)) == {Status.SUCCESS}
    for row in Ingestion.objects.select_related("last_event"):
        assert row.last_event is not None and row.last_event.status == Status.SUCCESS
        assert row.last_event.pk > newest


def test_only_the_slice_is_moved(ingester: Ingester, make_file: Callable[..., File]) -> None:
    transitions.create(ingester.pk, [make_file().pk], Status.UNTRIED)
    attempt(ingester, Lane(Status.UNTRIED), Status.SUCCESS)
    first, second, third = FileEvent.objects.order_by("id").values_list("id", flat=True)
    archive(first)
    assert set(FileEvent.objects.values_list("id", flat=True)) == {second, third}
