"""Asking for another attempt: RERUN for one file or for a million, by whoever may.

What is being worked on right now is left alone and counted: its outcome is not known yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from django.db import transaction
from django.db.models import QuerySet

from buffer.models import File
from ingest import transitions
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status

BATCH_SIZE: Final = 500
#: A row that changes under us is looked at again this often.
_TRIES: Final = 3
_USER_CHARS: Final = 150


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a request.

    Parameters
    ----------
    asked : `int`
        Files that will be tried again, and have an event that says so.
    claimed : `int`
        Files left alone because a worker holds them now.
    already : `int`
        Files that waited for another attempt before; nothing was written.
    unfit : `int`
        Files that this ingester cannot try: not stored yet, or stored elsewhere.
    """

    asked: int = 0
    claimed: int = 0
    already: int = 0
    unfit: int = 0

    def __add__(self, other: Result) -> Result:
        return Result(
            self.asked + other.asked,
            self.claimed + other.claimed,
            self.already + other.already,
            self.unfit + other.unfit,
        )

    @property
    def total(self) -> int:
        """How many files were looked at."""
        return self.asked + self.claimed + self.already + self.unfit

    def sentence(self) -> str:
        """Say it in words."""
        parts = [f"{_files(self.asked)} will be tried again"]
        if self.claimed:
            parts.append(
                f"{_files(self.claimed)} refused because a worker holds them now"
                " (ask again when the attempt is over)"
            )
        if self.already:
            parts.append(f"{_files(self.already)} waited for that already")
        if self.unfit:
            parts.append(f"{_files(self.unfit)} not in the storage that this ingester reads")
        return "; ".join(parts)


def _tell_nobody(done: int, total: int) -> None:
    """Show no progress."""


def rerun(
    rows: QuerySet[Ingestion] | Iterable[int],
    *,
    user: str,
    note: str = "",
    tell: Callable[[int, int], object] = _tell_nobody,
) -> Result:
    """Ask for another attempt of files that are known at their ingester.

    Parameters
    ----------
    rows : `~django.db.models.QuerySet` [`Ingestion`] or iterable of `int`
        The ingestions, or their ids. Those that match now; others that match later are not meant.
    user : `str`
        Who asks.
    note : `str`, optional
        Why.
    tell : callable, optional
        Called now and then with how many are done, of how many.

    Returns
    -------
    result : `Result`
        How many will be tried again, and how many not.
    """
    ids = rows.order_by().values_list("pk", flat=True) if isinstance(rows, QuerySet) else rows
    result = Result()
    everything = sorted(set(ids))
    for batch in _batches(everything):
        result += _rerun_batch(batch, user[:_USER_CHARS], note)
        tell(result.total, len(everything))
    return result


def rerun_files(
    files: QuerySet[File] | Iterable[int],
    ingester: Ingester,
    *,
    user: str,
    note: str = "",
    tell: Callable[[int, int], object] = _tell_nobody,
) -> Result:
    """Ask for another attempt of files at one ingester, known there or not.

    Parameters
    ----------
    files : `~django.db.models.QuerySet` [`File`] or iterable of `int`
        The files, or their ids.
    ingester : `Ingester`
        Where.
    user : `str`
        Who asks.
    note : `str`, optional
        Why.
    tell : callable, optional
        Called now and then with how many are done, of how many.

    Returns
    -------
    result : `Result`
        How many will be tried again, and how many not.
    """
    ids = files.order_by().values_list("pk", flat=True) if isinstance(files, QuerySet) else files
    result = Result()
    everything = sorted(set(ids))
    for batch in _batches(everything):
        fit = list(
            File.objects.stored()
            .filter(storage=ingester.storage_id, pk__in=batch)
            .values_list("pk", flat=True)
        )
        # Together, or a worker could take a file that was never opened before it is RERUN.
        with transaction.atomic():
            transitions.create(ingester.pk, fit, Status.UNTRIED, user=user[:_USER_CHARS])
            known = Ingestion.objects.filter(ingester=ingester, file__in=fit)
            result += rerun(known, user=user, note=note)
        result += Result(unfit=len(batch) - len(fit))
        tell(result.total, len(everything))
    return result


def _rerun_batch(ids: Sequence[int], user: str, note: str) -> Result:
    asked = claimed = already = 0
    left: Sequence[int] = ids
    for _ in range(_TRIES):
        steps: dict[int, list[transitions.Step]] = defaultdict(list)
        rows = Ingestion.objects.filter(pk__in=left).order_by("pk")
        for row in rows.only("file_id", "ingester_id", "status", "claim"):
            if row.status == Status.RERUN:
                already += 1
            elif row.claim is not None:
                claimed += 1
            else:
                steps[row.ingester_id].append(_step(row, user, note))
        left = []
        for ingester_id, wanted in steps.items():
            done = {step.ingestion_id for step in transitions.apply(ingester_id, wanted)}
            asked += len(done)
            left += [s.ingestion_id for s in wanted if s.ingestion_id not in done]
        if not left:
            break
    # What is left changed again and again while we looked: somebody is at work on it.
    return Result(asked, claimed + len(left), already)


def _step(row: Ingestion, user: str, note: str) -> transitions.Step:
    return transitions.Step(
        ingestion_id=row.pk,
        file_id=row.file_id,
        was=Status(row.status),
        held=None,
        status=Status.RERUN,
        attempts=0,
        user=user,
        note=note,
    )


def _batches(everything: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut ids into batches; all of them were read before, so that what is meant stays the same."""
    for at in range(0, len(everything), BATCH_SIZE):
        yield everything[at : at + BATCH_SIZE]


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"
