"""Requests to try very many files again, carried out in the background by the ingester's command.

When somebody asks, the files are read once and written down in chunks, so that what is meant, and
how many, is settled then. The ingester's loop takes one chunk in each cycle: the files' statuses
and events, the job's counts and the end of the chunk are one transaction, and the job's row is
locked in it. A process that is killed loses a chunk's work as a whole, and the next one does it
again; two processes never work on the same job. Nothing has to be sent, so nothing can be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from buffer import steps
from ingest.models import FileEvent, Ingester, Ingestion, RerunChunk, RerunJob
from ingest.rerun import BATCH_SIZE, Result, rerun_files

#: Up to so many files are dealt with at once, while whoever asked waits.
AT_ONCE: Final = 1000
#: More files than this nobody can mean to choose in a browser.
MOST: Final = 2_000_000
_CHUNKS: Final = 200


def newest_event() -> int:
    """Give the id of the newest event; what is tried after it is tried after now."""
    return FileEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def ask(
    ingester: Ingester, file_ids: Iterable[int], *, described: str, user: str, note: str
) -> RerunJob:
    """Write down a request.

    Parameters
    ----------
    ingester : `Ingester`
        Where.
    file_ids : iterable of `int`
        Which files, each once.
    described : `str`
        The same in words.
    user, note : `str`
        Who asks, and why.
    """
    ids = iter(file_ids)
    with transaction.atomic():
        job = RerunJob.objects.create(
            ingester=ingester,
            described=described,
            user=user,
            note=note,
            upto_event=newest_event(),
            total=0,
        )
        chunks = _chunks(job, ids)
        while some := list(islice(chunks, _CHUNKS)):
            RerunChunk.objects.bulk_create(some)
            job.total += sum(len(chunk.files) for chunk in some)
        steps.reached("job written")
        if not job.total:
            job.finished_on = timezone.now()
        job.save()
    return job


def step(ingester_id: int) -> int:
    """Deal with one chunk of an ingester's oldest open job.

    Returns
    -------
    files : `int`
        How many were dealt with; 0 if there is nothing to do, or somebody else does it.
    """
    if not waits(ingester_id):
        return 0
    with transaction.atomic():
        # SQLite has one writer at a time, and no such lock.
        jobs = RerunJob.objects.select_for_update(skip_locked=True)
        job = jobs.filter(ingester=ingester_id, finished_on__isnull=True).order_by("pk").first()
        if job is None:
            return 0
        first, *others = RerunChunk.objects.filter(job=job).order_by("pk")[:2]
        since, result = _rerun(job, first.files)
        steps.reached("chunk asked for")
        first.delete()
        RerunJob.objects.filter(pk=job.pk).update(
            asked=F("asked") + result.asked,
            claimed=F("claimed") + result.claimed,
            already=F("already") + result.already,
            unfit=F("unfit") + result.unfit,
            since=F("since") + since,
            finished_on=None if others else timezone.now(),
        )
        steps.reached("chunk counted")
    steps.reached("chunk done")
    return len(first.files)


def waits(ingester_id: int) -> bool:
    """Tell whether an ingester has a job that is not finished."""
    return RerunJob.objects.filter(ingester=ingester_id, finished_on__isnull=True).exists()


def _rerun(job: RerunJob, file_ids: list[int]) -> tuple[int, Result]:
    tried = set(
        Ingestion.objects.filter(
            ingester=job.ingester_id, file__in=file_ids, last_event_id__gt=job.upto_event
        ).values_list("file", flat=True)
    )
    rest = [pk for pk in file_ids if pk not in tried]
    return len(tried), rerun_files(rest, job.ingester, user=job.user, note=job.note)


def _chunks(job: RerunJob, ids: Iterator[int]) -> Iterator[RerunChunk]:
    while files := list(islice(ids, BATCH_SIZE)):
        yield RerunChunk(job=job, files=files)
