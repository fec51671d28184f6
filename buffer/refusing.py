"""What was refused and why, and how that is written down.

New refusals take a few statements for a whole batch, those that stand one each.
"""

from __future__ import annotations

import os
import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from buffer.models import TRANSIENT_REASONS, File, Refusal, RefusalReason, Storage
from buffer.names import escape
from buffer.settling import state_of

FIRST_RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 300.0
#: Where room was missing, somebody is at work to make some.
LONGEST_FULL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Refused:
    """Why one arrival was refused."""

    reason: RefusalReason
    detail: str
    checksum: str = ""
    file: File | None = None
    #: Set when nothing is left to decide: a duplicate that was deleted or set aside.
    resolved_how: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A refusal that is to be written down.

    Parameters
    ----------
    key : `bytes`
        Digest of the source and the exact path.
    path : `str`
        Path below the source, as the file system has it.
    stat : `os.stat_result` or `None`
        What it is; None if it is gone.
    refused : `Refused`
        Why.
    tries : `int`
        How often it was refused so before.
    pause_s : `float` or `None`
        Seconds until it is tried again; None: not by itself.
    """

    key: bytes
    path: str
    stat: os.stat_result | None
    refused: Refused
    tries: int
    pause_s: float | None

    @property
    def identity(self) -> str:
        """What a change of the arrival changes; empty if it is gone."""
        return full_identity(self.stat) if self.stat else ""

    def fields(self, now: datetime) -> dict[str, Any]:
        """Give what its row says of this time."""
        stat, refused, pause = self.stat, self.refused, self.pause_s
        said = {
            "reason": refused.reason,
            "detail": refused.detail,
            "size_bytes": stat.st_size if stat else None,
            "mtime": _moment(stat.st_mtime) if stat else None,
            "identity": self.identity,
            "checksum": refused.checksum,
            "file": refused.file,
            "last_seen": now,
            "next_attempt_on": None if pause is None else now + timedelta(seconds=pause),
        }
        if refused.resolved_how:
            said |= {
                "resolved_on": now,
                "resolved_how": refused.resolved_how,
                "resolved_by": "finder",
            }
        return said


def pause_s(reason: str, tries: int) -> float | None:
    """Give the seconds until an arrival is tried again: doubling, with jitter; None: never."""
    if reason not in TRANSIENT_REASONS:
        return None
    longest = LONGEST_FULL_S if reason == RefusalReason.STORAGE_FULL else LONGEST_RETRY_S
    pause = min(FIRST_RETRY_S * 2.0 ** min(tries, 10), longest)
    return pause * random.uniform(0.75, 1.25)


def write(storage: Storage, source: str, drafts: Collection[Draft]) -> None:
    """Write refusals down, all or none: as new ones, or as another time of those that stand.

    Parameters
    ----------
    storage : `Storage`
        Where the arrivals were to go.
    source : `str`
        The buffer they lie in.
    drafts : `~collections.abc.Collection` [`Draft`]
        What was refused; of different keys.
    """
    now = timezone.now()
    with transaction.atomic():
        keys = [draft.key.hex() for draft in drafts]
        standing = Refusal.objects.unresolved().filter(key__in=keys)
        known = set(standing.values_list("key", flat=True))
        fresh = []
        for draft in drafts:
            key, said = draft.key.hex(), draft.fields(now)
            row = Refusal.objects.unresolved().filter(key=key)
            # A person may have closed it meanwhile.
            if key in known and row.update(times_seen=F("times_seen") + 1, **said):
                continue
            fresh.append(
                Refusal(
                    storage=storage, source=source, path=escape(draft.path), key=key,
                    first_seen=now, **said,
                )
            )  # fmt: skip
        Refusal.objects.bulk_create(fresh)


def full_identity(stat: os.stat_result) -> str:
    """Give device, inode, size, mtime and ctime: more than a stored file is known by."""
    return "%d:%d:%d:%d:%d" % state_of(stat)  # noqa: UP031 - twice as fast as an f-string


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        # File systems hold any number of seconds, far beyond the year 9999.
        return None
