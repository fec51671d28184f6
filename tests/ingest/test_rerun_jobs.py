"""Requests for many files: carried out once, whoever is killed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection

from buffer.models import File, Storage
from ingest import rerun_jobs, transitions
from ingest.models import FileEvent, Ingester, Ingestion, RerunChunk, RerunJob
from ingest.statuses import Status
from ingest.transitions import Step
from tests.faults.points import Points
from tests.ingest.desk import tried
from tests.invariants import status_is_newest_event

MakeFile = Callable[..., File]


@pytest.fixture
def failures(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> list[Ingestion]:
    """Seven files that failed, and chunks of three."""
    monkeypatch.setattr(rerun_jobs, "BATCH_SIZE", 3)
    return [tried(ingester, make_file()) for _ in range(7)]


def ask(ingester: Ingester, rows: list[Ingestion]) -> RerunJob:
    ids = [row.file_id for row in rows]
    return rerun_jobs.ask(ingester, iter(ids), described="some", user="ann", note="mended")


def run(ingester: Ingester) -> list[int]:
    done = []
    while files := rerun_jobs.step(ingester.pk):
        done.append(files)
    return done


def reruns() -> list[int]:
    return list(FileEvent.objects.filter(status=Status.RERUN).values_list("file", flat=True))


@pytest.mark.django_db
def test_chunk_by_chunk(ingester: Ingester, failures: list[Ingestion]) -> None:
    job = ask(ingester, failures)
    assert (job.total, job.done, job.finished_on) == (7, 0, None)
    assert rerun_jobs.step(ingester.pk) == 3
    job.refresh_from_db()
    assert (job.done, job.asked, job.finished_on) == (3, 3, None)
    assert run(ingester) == [3, 1]
    job.refresh_from_db()
    assert job.asked == 7 and job.finished_on is not None
    assert not RerunChunk.objects.exists() and not rerun_jobs.waits(ingester.pk)
    assert sorted(reruns()) == sorted(row.file_id for row in failures)
    event = FileEvent.objects.latest("pk")
    assert (event.user, event.note) == ("ann", "mended")
    status_is_newest_event()


@pytest.mark.django_db
def test_what_was_tried_meanwhile_is_left_alone(
    ingester: Ingester, failures: list[Ingestion], make_file: MakeFile
) -> None:
    fresh, elsewhere = make_file(), Storage.objects.create(name="other", root="/other")
    astray = make_file(storage=elsewhere)
    job = rerun_jobs.ask(
        ingester,
        [*(row.file_id for row in failures), fresh.pk, astray.pk],
        described="some",
        user="ann",
        note="",
    )
    row = failures[0]
    step = Step(row.pk, row.file_id, Status.FAILURE, None, Status.SUCCESS, 1)
    assert transitions.apply(ingester.pk, [step])
    run(ingester)
    job.refresh_from_db()
    assert (job.asked, job.since, job.unfit) == (7, 1, 1)
    row.refresh_from_db()
    assert row.status == Status.SUCCESS
    assert Ingestion.objects.get(file=fresh).status == Status.RERUN
    status_is_newest_event()


@pytest.mark.django_db
def test_a_job_of_nothing_is_finished(ingester: Ingester) -> None:
    assert ask(ingester, []).finished_on is not None
    assert rerun_jobs.step(ingester.pk) == 0


@pytest.mark.django_db(transaction=True)
def test_killed_at_every_point(
    ingester: Ingester, failures: list[Ingestion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever chunk is under way: each file is asked for once, and every file is."""
    points, number, kills = Points(), 1, 0
    while True:
        FileEvent.objects.filter(status=Status.RERUN).delete()
        newest = {row.file_id: row.last_event_id for row in failures}
        for row in Ingestion.objects.all():
            fields = {"status": Status.FAILURE, "last_event_id": newest[row.file_id]}
            Ingestion.objects.filter(pk=row.pk).update(**fields)
        job = ask(ingester, failures)
        with monkeypatch.context() as patch, points.watching(patch), points.armed(number):
            run(ingester)
        killed = bool(points.acted_at)
        kills += killed
        run(ingester)
        job.refresh_from_db()
        assert (job.asked, job.done) == (7, 7), points.acted_at
        assert job.finished_on is not None
        assert sorted(reruns()) == sorted(newest), points.acted_at
        status_is_newest_event()
        if not killed:
            break
        number += 1
    assert kills > 20


@pytest.mark.django_db(transaction=True)
def test_two_processes_on_one_job(ingester: Ingester, failures: list[Ingestion]) -> None:
    job = ask(ingester, failures)

    def work() -> None:
        try:
            while rerun_jobs.waits(ingester.pk):
                rerun_jobs.step(ingester.pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    job.refresh_from_db()
    assert (job.asked, job.done) == (7, 7)
    assert sorted(reruns()) == sorted(row.file_id for row in failures)
