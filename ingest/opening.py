"""Opening ingestions: every stored file gets the status UNTRIED at every ingester.

Incremental by file id, so that a cycle costs what has arrived, not what was ever stored. Ids are
given out before their rows are committed, so a file can appear below those that were opened
already. So the newest ids are looked through again in each sweep, every id once more after a while
that no transaction takes, and all older ones slice by slice, over and over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from django.db.models import Min
from django.utils import timezone

from buffer import steps as protocol
from buffer.models import File
from ingest import transitions
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status

#: Files looked at in one step.
SLICE: Final = 5000
#: Ids that each sweep looks at: the newest ones, and the next ones of the slow pass.
NEWEST: Final = 1000
OLDER: Final = 2500
#: What is committed later than this after its id was passed is left to the slow pass; seconds.
LATE_S: Final = 60.0
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
    steady : callable, optional
        A clock that is never set.
    """

    def __init__(
        self, ingester: Ingester, worker: str, *, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._ingester, self._worker, self._steady = ingester, worker, steady
        #: The lowest take-in that is under way, and since when we wait for it.
        self._awaited: tuple[int, float] | None = None
        self._watermark = ingester.watermark
        self._older = self._watermark
        #: Up to where ids were opened, and when: what has not been looked at again since.
        self._marks: deque[tuple[float, int]] = deque()
        self._settled = self._watermark

    def has_new(self) -> bool:
        """Tell whether there are files above those that were opened."""
        # In the order of ids, and not EXISTS: PostgreSQL would go through a table that it has no
        # statistics of from its beginning.
        above = File.objects.filter(id__gt=self._watermark).order_by("id")
        return above.values_list("id", flat=True).first() is not None

    def step(self) -> int:
        """Look at the next files, and open those that are to be.

        Returns
        -------
        passed : `int`
            How many were looked at; 0 when there are none, or the next one is being taken in.
        """
        ids = self._next_ids()
        if not ids:
            return 0
        self._open(self._watermark, ids[-1])
        protocol.reached("files opened")
        Ingester.objects.filter(pk=self._ingester.pk, watermark__lt=ids[-1]).update(
            watermark=ids[-1]
        )
        protocol.reached("watermark moved")
        self._watermark = ids[-1]
        return len(ids)

    def sweep(self) -> int:
        """Look again for what was committed late; tell how many files were opened."""
        newest = max(0, self._watermark - NEWEST)
        opened = self._open(newest, self._watermark)
        now = self._steady()
        self._marks.append((now, self._watermark))
        while self._marks[0][0] <= now - LATE_S:
            opened += self._settle(self._marks.popleft()[1])
        if self._older <= 0:
            self._older = self._watermark
        begin = max(0, self._older - OLDER)
        if begin < newest:
            opened += self._open(begin, min(self._older, newest))
        self._older = begin
        return opened

    def _settle(self, upto: int) -> int:
        """Look once more through the ids that were passed by a time long enough ago."""
        opened = 0
        while self._settled < upto:
            # By rows, not by numbers: there may be wide gaps between ids.
            ids = File.objects.filter(id__gt=self._settled, id__lte=upto).order_by("id")
            end = ids.values_list("id", flat=True)[SLICE - 1 : SLICE].first() or upto
            opened += self._open(self._settled, end)
            self._settled = end
        return opened

    def _next_ids(self) -> list[int]:
        """Give the ids of the next files, up to the lowest take-in that is under way."""
        above = File.objects.filter(id__gt=self._watermark)
        ids = list(above.order_by("id").values_list("id", flat=True)[:SLICE])
        lowest = (
            above.intents()
            .filter(
                storage=self._ingester.storage_id,
                added_on__gt=timezone.now() - _PATIENCE,
            )
            .aggregate(lowest=Min("id"))["lowest"]
        )
        if lowest is None:
            self._awaited = None
            return ids
        if self._awaited is None or self._awaited[0] != lowest:
            self._awaited = (lowest, self._steady())
        if self._steady() - self._awaited[1] > _PATIENCE.total_seconds():
            # It looks young for ever where the finder's clock is, or was, ahead of ours.
            return ids
        return [file_id for file_id in ids if file_id < lowest]

    def _open(self, after: int, upto: int) -> int:
        files = File.objects.stored().among(self._ingester.storage_id)
        stored = files.filter(id__gt=after, id__lte=upto)
        known = Ingestion.objects.filter(
            ingester=self._ingester.pk, file_id__gt=after, file_id__lte=upto
        ).values("file_id")
        ids = stored.exclude(id__in=known).order_by("id").values_list("id", flat=True)
        return len(transitions.create(self._ingester.pk, ids, Status.UNTRIED, worker=self._worker))
