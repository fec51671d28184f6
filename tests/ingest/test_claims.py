"""Claims: one holder, leases by the database's clock."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from buffer.models import File
from ingest import claims, transitions
from ingest.claims import Lane
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.statuses import Status
from ingest.transitions import Step

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]
LANES = [Lane(Status.RERUN), Lane(Status.UNTRIED)]


def open_files(ingester: Ingester, make_file: MakeFile, n: int) -> list[File]:
    files = [make_file() for _ in range(n)]
    transitions.create(ingester.pk, [f.pk for f in files], Status.UNTRIED)
    return files


def begin(ingester: Ingester, claim: claims.Claim) -> None:
    transitions.apply(
        ingester.pk,
        [
            Step(
                ingestion_id=f.ingestion_id,
                file_id=f.file_id,
                was=f.status,
                held=claim.token,
                status=Status.PENDING,
                attempts=f.attempts + 1,
                keep=True,
            )
            for f in claim.files
        ],
    )


def lapse() -> None:
    past = timezone.now() - timedelta(seconds=1)
    Ingestion.objects.filter(claim__isnull=False).update(lease_until=past)


def test_oldest_first_and_no_more_than_asked(ingester: Ingester, make_file: MakeFile) -> None:
    files = open_files(ingester, make_file, 5)
    claim = claims.claim(ingester.pk, LANES, 3, "w")
    assert claim is not None
    assert [c.file_id for c in claim.files] == [f.pk for f in files[:3]]
    rest = claims.claim(ingester.pk, LANES, 3, "w")
    assert rest is not None
    assert [c.file_id for c in rest.files] == [f.pk for f in files[3:]]
    assert claims.claim(ingester.pk, LANES, 3, "w") is None


def test_a_claim_tells_the_paths(ingester: Ingester, make_file: MakeFile) -> None:
    files = [make_file(relpath=relpath) for relpath in ("", "night/raw")]
    transitions.create(ingester.pk, [file.pk for file in files], Status.UNTRIED)
    claim = claims.claim(ingester.pk, LANES, 2, "w")
    assert claim is not None
    assert [one.path for one in claim.files] == [file.path for file in files]


def test_a_claim_changes_no_status(ingester: Ingester, make_file: MakeFile) -> None:
    open_files(ingester, make_file, 1)
    claim = claims.claim(ingester.pk, LANES, 1, "w")
    row = Ingestion.objects.get()
    assert claim is not None
    assert (row.status, row.claim) == (Status.UNTRIED, claim.token)
    assert row.lease_until is not None
    left = row.lease_until - timezone.now()
    assert timedelta(seconds=claims.LEASE_S - 5) < left <= timedelta(seconds=claims.LEASE_S + 1)


def test_reruns_go_before_the_backlog(ingester: Ingester, make_file: MakeFile) -> None:
    files = open_files(ingester, make_file, 3)
    row = Ingestion.objects.get(file=files[2])
    transitions.apply(
        ingester.pk, [Step(row.pk, row.file_id, Status.UNTRIED, None, Status.RERUN, 0)]
    )
    claim = claims.claim(ingester.pk, LANES, 10, "w")
    assert claim is not None
    assert [c.file_id for c in claim.files] == [files[2].pk]


def test_due_lane_waits_for_its_time(ingester: Ingester, make_file: MakeFile) -> None:
    open_files(ingester, make_file, 2)
    first, second = Ingestion.objects.order_by("id")
    now = timezone.now()
    for row, due in ((first, now + timedelta(hours=1)), (second, now - timedelta(seconds=1))):
        transitions.apply(
            ingester.pk,
            [
                Step(row.pk, row.file_id, Status.UNTRIED, None, Status.FAILURE, 1,
                     next_attempt_on=due)
            ],
        )  # fmt: skip
    claim = claims.claim(ingester.pk, [Lane(Status.FAILURE, due=True)], 10, "w")
    assert claim is not None
    assert [c.ingestion_id for c in claim.files] == [second.pk]


def test_before_event_leaves_newer_outcomes(ingester: Ingester, make_file: MakeFile) -> None:
    open_files(ingester, make_file, 2)
    first, second = Ingestion.objects.order_by("id")
    transitions.apply(
        ingester.pk, [Step(first.pk, first.file_id, Status.UNTRIED, None, Status.FAILURE, 1)]
    )
    start = FileEvent.objects.latest("id").pk
    transitions.apply(
        ingester.pk, [Step(second.pk, second.file_id, Status.UNTRIED, None, Status.FAILURE, 1)]
    )
    lane = Lane(Status.FAILURE, before_event=start)
    claim = claims.claim(ingester.pk, [lane], 10, "w")
    assert claim is not None
    assert [c.ingestion_id for c in claim.files] == [first.pk]
    assert not claims.waiting(ingester.pk, [lane])


def test_renew_prolongs_and_tells_what_is_left(ingester: Ingester, make_file: MakeFile) -> None:
    open_files(ingester, make_file, 2)
    claim = claims.claim(ingester.pk, LANES, 2, "w")
    assert claim is not None
    soon = timezone.now() + timedelta(seconds=5)
    Ingestion.objects.update(lease_until=soon)
    assert claims.renew(claim) == 2
    assert Ingestion.objects.filter(lease_until__gt=soon).count() == 2
    lapse()
    assert claims.renew(claim) == 0, "a lapsed lease belongs to nobody"


def test_drop_frees_without_an_event(ingester: Ingester, make_file: MakeFile) -> None:
    open_files(ingester, make_file, 1)
    claim = claims.claim(ingester.pk, LANES, 1, "w")
    assert claim is not None
    assert claims.drop(claim, [c.ingestion_id for c in claim.files]) == 1
    assert FileEvent.objects.count() == 1
    assert claims.waiting(ingester.pk, LANES)
    assert not claims.anything_held(ingester.pk)


def test_drop_does_not_touch_what_began(ingester: Ingester, make_file: MakeFile) -> None:
    open_files(ingester, make_file, 1)
    claim = claims.claim(ingester.pk, LANES, 1, "w")
    assert claim is not None
    begin(ingester, claim)
    assert claims.drop(claim, [c.ingestion_id for c in claim.files]) == 0


CLAIMER = """
import os, sys, uuid
os.environ["DJANGO_SETTINGS_MODULE"] = "endpoint_site.settings"
import django
django.setup()
from ingest import claims, transitions
from ingest.claims import Lane
from ingest.statuses import Status
from ingest.transitions import Step
ingester, worker = int(sys.argv[1]), sys.argv[2]
sys.stdin.readline()
while claim := claims.claim(ingester, [Lane(Status.UNTRIED)], 7, worker):
    for status, was, keep in (
        (Status.PENDING, Status.UNTRIED, True), (Status.SUCCESS, Status.PENDING, False)
    ):
        steps = [Step(f.ingestion_id, f.file_id, was, claim.token, status, 1, keep=keep,
                      worker=worker) for f in claim.files]
        assert len(transitions.apply(ingester, steps)) == len(steps)
"""


def test_processes_never_hold_the_same_file(
    database_url: str, ingester: Ingester, make_file: MakeFile
) -> None:
    """Eight processes on a barrier: every file claimed once, its history in order."""
    files = open_files(ingester, make_file, 400)
    connection.close()
    environment = {**os.environ, "DATABASE_URL": database_url}
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(ingester.pk), f"w{n}"],
            env=environment,
            stdin=subprocess.PIPE,
        )
        for n in range(8)
    ]
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    assert [process.wait(timeout=120) for process in crowd] == [0] * 8
    for process in crowd:
        assert process.stdin is not None
        process.stdin.close()
    for file in files:
        events = FileEvent.objects.filter(file=file).order_by("id")
        assert [e.status for e in events] == ["UNTRIED", "PENDING", "SUCCESS"]
    assert Ingestion.objects.filter(status=Status.SUCCESS, claim=None).count() == len(files)


def test_a_claim_of_one_ingester_says_nothing_of_another(
    ingester: Ingester, make_file: MakeFile
) -> None:
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    (file,) = open_files(ingester, make_file, 1)
    transitions.create(other.pk, [file.pk], Status.UNTRIED)
    assert claims.claim(ingester.pk, LANES, 1, "w") is not None
    assert claims.waiting(other.pk, LANES)
    assert claims.renew(claims.Claim(other.pk, uuid.uuid4(), "w", [])) == 0


def test_a_run_that_is_to_end_does_not_wait_for_questions_for_hours(
    ingester: Ingester, make_file: MakeFile
) -> None:
    lanes = [Lane(status, due=True) for status in (Status.UNKNOWN, Status.FAILURE)]
    row = Ingestion.objects.create(file=make_file(), ingester=ingester, status=Status.UNKNOWN)
    now = timezone.now()
    for status, minutes, waits in (
        (Status.UNKNOWN, 5, True),
        (Status.UNKNOWN, 60, False),
        (Status.FAILURE, 60, True),
    ):
        due = now + timedelta(minutes=minutes)
        Ingestion.objects.filter(pk=row.pk).update(status=status, next_attempt_on=due)
        assert claims.anything_due_later(ingester.pk, lanes) is waits
    assert not claims.anything_due_later(ingester.pk, lanes[:1])
