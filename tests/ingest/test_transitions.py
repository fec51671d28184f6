"""Statuses change by compare-and-set, with one event for each change."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, transaction

from buffer.models import File
from ingest import transitions
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.statuses import Status
from ingest.transitions import Step

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


def step(row: Ingestion, status: Status, **fields: object) -> Step:
    values = {
        "ingestion_id": row.pk,
        "file_id": row.file_id,
        "was": Status(row.status),
        "held": row.claim,
        "status": status,
        "attempts": row.attempts,
    }
    return Step(**{**values, **fields})  # type: ignore[arg-type]


def opened(ingester: Ingester, file: File) -> Ingestion:
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    return Ingestion.objects.get(ingester=ingester, file=file)


def test_create_records_the_first_status(ingester: Ingester, make_file: MakeFile) -> None:
    files = [make_file() for _ in range(3)]
    made = transitions.create(ingester.pk, [f.pk for f in files], Status.UNTRIED, worker="me")
    assert made == [f.pk for f in files]
    for row in Ingestion.objects.all():
        assert row.status == Status.UNTRIED
        assert row.last_event.status == Status.UNTRIED
        assert row.last_event.file_id == row.file_id
        assert row.last_event.worker == "me"


def test_create_leaves_known_files_alone(ingester: Ingester, make_file: MakeFile) -> None:
    old, new = make_file(), make_file()
    transitions.create(ingester.pk, [old.pk], Status.BACKFILL)
    assert transitions.create(ingester.pk, [old.pk, new.pk], Status.UNTRIED) == [new.pk]
    assert Ingestion.objects.get(file=old).status == Status.BACKFILL
    assert FileEvent.objects.filter(file=old).count() == 1


def test_create_of_nothing_does_nothing(ingester: Ingester) -> None:
    assert transitions.create(ingester.pk, [], Status.UNTRIED) == []


def test_apply_changes_row_and_history_together(ingester: Ingester, make_file: MakeFile) -> None:
    row = opened(ingester, make_file())
    due = datetime(2026, 11, 23, 4, 5, 6, 789012, tzinfo=UTC)
    done = transitions.apply(
        ingester.pk,
        [
            step(
                row,
                Status.RERUN,
                user="anna",
                note="new calibration",
                cause="c",
                message='it\'s "quoted" \n',
                next_attempt_on=due,
                duration=1.5,
                version="v1",
            )
        ],
    )
    assert len(done) == 1
    row.refresh_from_db()
    assert (row.status, row.cause) == (Status.RERUN, "c")
    # By the database's clock, as far off as it was by ours.
    assert row.next_attempt_on is not None and abs(row.next_attempt_on - due).total_seconds() < 5
    event = row.last_event
    assert event == FileEvent.objects.latest("id")
    assert (event.status, event.user, event.note) == (Status.RERUN, "anna", "new calibration")
    assert (event.err_message, event.duration, event.ingest_ver) == (
        'it\'s "quoted" \n',
        1.5,
        "v1",
    )


def test_a_lost_race_writes_nothing(ingester: Ingester, make_file: MakeFile) -> None:
    row = opened(ingester, make_file())
    wrong_status = step(row, Status.SUCCESS, was=Status.RERUN)
    wrong_claim = step(row, Status.SUCCESS, held=uuid.uuid4())
    for lost in (wrong_status, wrong_claim):
        assert transitions.apply(ingester.pk, [lost]) == []
    row.refresh_from_db()
    assert row.status == Status.UNTRIED
    assert FileEvent.objects.count() == 1


def test_only_those_that_can_change_do(ingester: Ingester, make_file: MakeFile) -> None:
    rows = [opened(ingester, make_file()) for _ in range(5)]
    transitions.apply(ingester.pk, [step(rows[2], Status.RERUN)])
    done = transitions.apply(ingester.pk, [step(row, Status.IGNORED) for row in rows])
    assert [d.ingestion_id for d in done] == [r.pk for r in rows if r is not rows[2]]
    for row in Ingestion.objects.select_related("last_event"):
        newest = FileEvent.objects.filter(file=row.file_id).latest("id")
        assert row.last_event == newest
        assert row.status == newest.status


def test_another_ingester_is_not_touched(ingester: Ingester, make_file: MakeFile) -> None:
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    row = opened(ingester, make_file())
    assert transitions.apply(other.pk, [step(row, Status.RERUN)]) == []


@pytest.mark.parametrize("status", ["PENDING", "WRONG"])
def test_the_database_refuses_nonsense(
    ingester: Ingester, make_file: MakeFile, status: str
) -> None:
    """PENDING without a claim, and statuses that do not exist."""
    row = opened(ingester, make_file())
    with pytest.raises(IntegrityError), transaction.atomic():
        Ingestion.objects.filter(pk=row.pk).update(status=status)


def test_one_claim_has_one_outcome(ingester: Ingester, make_file: MakeFile) -> None:
    file, token = make_file(), uuid.uuid4()
    for status in (Status.PENDING, Status.SUCCESS):
        FileEvent.objects.create(file=file, ingester=ingester, status=status, claim=token)
    with pytest.raises(IntegrityError), transaction.atomic():
        FileEvent.objects.create(file=file, ingester=ingester, status=Status.FAILURE, claim=token)
