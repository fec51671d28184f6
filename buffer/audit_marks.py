"""Marks on stored files: set when an audit finds one wrong, cleared when one finds it right.

The history stays: a mark that is cleared keeps its row, and a file that is found wrong in another
way gets another one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from django.db import transaction
from django.utils import timezone

from buffer.audit_findings import Trouble
from buffer.components import worker_name
from buffer.models import File, Suspicion

_BY_CHARS: Final = 300
_CLEARED: Final = "it was read, and is as recorded"


class Marks:
    """Keeps the marks of one audit.

    Parameters
    ----------
    enabled : `bool`
        False: look at marks, and change none.
    by : `str`, optional
        Who marks and clears; else this process.
    """

    def __init__(self, *, enabled: bool, by: str = "") -> None:
        self._enabled, self._by = enabled, (by or worker_name())[:_BY_CHARS]

    def standing(self, files: Collection[File]) -> dict[int, Suspicion]:
        """Give the standing marks of some files, by the file's id."""
        ids = [file.pk for file in files]
        return {row.file_id: row for row in Suspicion.objects.standing().filter(file__in=ids)}

    def settle(
        self, marked: Mapping[int, Suspicion], bad: Mapping[int, Trouble], good: Collection[int]
    ) -> None:
        """Mark what is bad, and clear the marks of what is good.

        Parameters
        ----------
        marked : `~collections.abc.Mapping` [`int`, `Suspicion`]
            Standing marks, by the file's id.
        bad : `~collections.abc.Mapping` [`int`, `Trouble`]
            What was found, by the file's id.
        good : `~collections.abc.Collection` [`int`]
            Marked files that were read and are as recorded.
        """
        if not self._enabled or not (bad or good):
            return
        now = timezone.now()
        known = [marked[pk].pk for pk, trouble in bad.items() if _is_known(marked.get(pk), trouble)]
        turned = {pk: t for pk, t in bad.items() if not _is_known(marked.get(pk), t)}
        standing = Suspicion.objects.standing()
        with transaction.atomic():
            standing.filter(pk__in=known).update(seen_on=now)
            standing.filter(file__in=good).update(
                cleared_on=now, cleared_how=_CLEARED, cleared_by=self._by
            )
            for pk, trouble in turned.items():
                if pk in marked:
                    standing.filter(pk=marked[pk].pk).update(
                        cleared_on=now,
                        cleared_how=f"found as {trouble.kind} instead",
                        cleared_by=self._by,
                    )
            # Two audits at a time may find the same; and the row may be gone by now.
            there = set(File.objects.filter(pk__in=turned).values_list("pk", flat=True))
            Suspicion.objects.bulk_create(
                [
                    Suspicion(
                        file_id=pk,
                        kind=trouble.kind,
                        detail=trouble.detail,
                        found_on=now,
                        found_by=self._by,
                        seen_on=now,
                    )
                    for pk, trouble in turned.items()
                    if pk in there
                ],
                ignore_conflicts=True,
            )


def _is_known(mark: Suspicion | None, trouble: Trouble) -> bool:
    return mark is not None and (mark.kind, mark.detail) == (trouble.kind, trouble.detail)
