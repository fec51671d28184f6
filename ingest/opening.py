"""Opening ingestions: every stored file gets the status UNTRIED at every ingester.

Incremental by file id, so that a cycle costs what has arrived, not what was ever stored. Ids are
given out before their rows are committed, so a file can appear below those that were opened
already: slices of older ids are looked through again while there is nothing else to do.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db.models import Max, Min
from django.utils import timezone

from buffer.models import File
from ingest import transitions
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status

#: Ids looked at in one step.
SLICE: Final = 5000
#: A take-in that is not complete after this long was broken off; the files after it do not wait.
_PATIENCE: Final = timedelta(minutes=10)


class Opener:
    """Opens ingestions for one ingester.

    Parameters
    ----------
    ingester : `Ingester`
        The ingester's row.
    worker : `str`
        Who does it, for the history.
    """

    def __init__(self, ingester: Ingester, worker: str) -> None:
        self._ingester, self._worker = ingester, worker
        self._watermark = ingester.watermark
        self._older = self._watermark

    def has_new(self) -> bool:
        """Tell whether there are files above those that were opened."""
        return File.objects.filter(id__gt=self._watermark).exists()

    def step(self) -> int:
        """Open the next files, if there are any.

        Returns
        -------
        opened : `int`
            How many. Zero, and `is_current`, when all are.
        """
        end = self._end()
        if end <= self._watermark:
            return 0
        opened = self._open(self._watermark, end)
        Ingester.objects.filter(pk=self._ingester.pk, watermark__lt=end).update(watermark=end)
        self._watermark = end
        self._older = max(self._older, end)
        return opened

    def sweep(self) -> int:
        """Look again through the newest ids and one slice of older ones."""
        newest = max(0, self._watermark - SLICE)
        opened = self._open(newest, self._watermark)
        if self._older <= 0:
            self._older = self._watermark
        begin = max(0, self._older - SLICE)
        if begin < newest:
            opened += self._open(begin, min(self._older, newest))
        self._older = begin
        return opened

    def _end(self) -> int:
        """Find how far the next step may go: below the lowest take-in that is under way."""
        files = File.objects.all()
        top = files.aggregate(top=Max("id"))["top"] or 0
        if top <= self._watermark:
            return self._watermark
        end = min(top, self._watermark + SLICE)
        lowest = (
            files.intents()
            .filter(
                storage=self._ingester.storage_id,
                id__gt=self._watermark,
                added_on__gt=timezone.now() - _PATIENCE,
            )
            .aggregate(lowest=Min("id"))["lowest"]
        )
        return end if lowest is None else min(end, lowest - 1)

    def _open(self, after: int, upto: int) -> int:
        stored = File.objects.stored().filter(
            storage=self._ingester.storage_id, id__gt=after, id__lte=upto
        )
        known = Ingestion.objects.filter(
            ingester=self._ingester.pk, file_id__gt=after, file_id__lte=upto
        ).values("file_id")
        ids = stored.exclude(id__in=known).order_by("id").values_list("id", flat=True)
        return len(transitions.create(self._ingester.pk, ids, Status.UNTRIED, worker=self._worker))
