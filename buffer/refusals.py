"""Arrivals that were not taken in: recorded once, remembered, and closed when they are gone.

A refusal is looked up by what the arrival *is* (device, inode, size, times), so that an arrival
that did not change is neither read nor recorded again: a hundred thousand of them cost a cycle no
more than the walk that finds them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from buffer import decisions, steps
from buffer.decisions import Decisions
from buffer.models import TRANSIENT_REASONS, Decision, File, Refusal, RefusalReason, Storage
from buffer.names import escape

logger = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 300.0
#: Where room was missing, somebody is at work to make some.
LONGEST_FULL_S: Final = 60.0
#: A look for it that takes longer than this comes less often in proportion; seconds.
REFRESH_COST_S: Final = 0.1
_PART: Final = 500


@dataclass(frozen=True, slots=True)
class Refused:
    """Why one arrival was refused."""

    reason: RefusalReason
    detail: str
    checksum: str = ""
    file: File | None = None
    #: Set when nothing is left to decide: a duplicate that was deleted or set aside.
    resolved_how: str = ""


@dataclass(slots=True)
class _Known:
    identity: str
    reason: str
    #: By the steady clock; None: only a change of the arrival makes another look worth it.
    retry_at: float | None
    tries: int = 0
    scan: int = 0


class Refusals:
    """The standing refusals of one source.

    Parameters
    ----------
    storage : `Storage`
        Where the arrivals were to go.
    source : `str`
        The buffer they lie in.
    steady : callable, optional
        A clock that is never set.

    Attributes
    ----------
    decisions : `Decisions`
        What people have decided about some of them.
    """

    def __init__(
        self, storage: Storage, source: str, *, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage, self._source, self._steady = storage, source, steady
        self._scan = 0
        # By the digest that is the row's key: to hold a hundred thousand paths would cost more.
        self._known: dict[bytes, _Known] = {}
        #: What was known before the transaction of `together`.
        self._before: dict[bytes, _Known | None] | None = None
        prefix = f"{storage.pk}\0{source}\0".encode("utf-8", "surrogateescape")
        self._prefix = hashlib.blake2b(prefix, digest_size=16)
        self._refresh_at = steady() + decisions.REFRESH_S
        self.decisions = Decisions(storage, source, steady)
        for row in Refusal.objects.unresolved().filter(storage=storage, source=source):
            # Transient ones are tried again at once: a restart may be what was waited for.
            retry_at = steady() if row.reason in TRANSIENT_REASONS else None
            self._known[bytes.fromhex(row.key)] = _Known(row.identity, row.reason, retry_at)

    def __len__(self) -> int:
        return len(self._known)

    def stands(self, path: str, stat: os.stat_result) -> bool:
        """Tell whether an arrival was refused and there is no reason to look at it again."""
        if not self._known:
            return False
        key = self._key(path)
        known = self._known.get(key)
        if known is None:
            return False
        known.scan = self._scan
        if known.identity != _identity(stat):
            return False
        if known.retry_at is None:
            return self.decisions.get(key) is None
        return self._steady() < known.retry_at

    def stands_for_good(self, path: str, stat: os.stat_result) -> bool:
        """Tell whether an arrival was refused, and time alone will not change that."""
        known = self._known.get(self._key(path)) if self._known else None
        return known is not None and known.retry_at is None and known.identity == _identity(stat)

    def is_transient(self, path: str) -> bool:
        """Tell whether a path has a standing refusal that time may heal."""
        return self.reason(path) in TRANSIENT_REASONS

    def reason(self, path: str) -> str:
        """Give the reason of a path's standing refusal; '' if there is none."""
        known = self._known.get(self._key(path)) if self._known else None
        return "" if known is None else known.reason

    def add(self, path: str, stat: os.stat_result | None, refused: Refused) -> None:
        """Record a refusal, with one line in the log.

        Parameters
        ----------
        path : `str`
            Path below the source, as the file system has it.
        stat : `os.stat_result` or `None`
            What it is; None if it is gone.
        refused : `Refused`
            Why.
        """
        key, identity = self._key(path), _identity(stat) if stat else ""
        now = timezone.now()
        shown = {
            "reason": refused.reason,
            "detail": refused.detail,
            "size_bytes": stat.st_size if stat else None,
            "mtime": _moment(stat.st_mtime) if stat else None,
            "identity": identity,
            "checksum": refused.checksum,
            "file": refused.file,
            "last_seen": now,
        }
        if refused.resolved_how:
            shown |= {
                "resolved_on": now,
                "resolved_how": refused.resolved_how,
                "resolved_by": "finder",
            }
        known = self._known.get(key)
        tries = known.tries + 1 if known and known.reason == refused.reason else 0
        pause = _pause(tries, refused.reason) if refused.reason in TRANSIENT_REASONS else None
        shown["next_attempt_on"] = None if pause is None else now + timedelta(seconds=pause)
        # No savepoint: within `together` all fails together.
        with transaction.atomic(savepoint=False):
            row = Refusal.objects.unresolved().filter(key=key.hex())
            if not row.update(times_seen=F("times_seen") + 1, **shown):
                Refusal.objects.create(
                    storage=self._storage,
                    source=self._source,
                    path=escape(path),
                    key=key.hex(),
                    first_seen=now,
                    **shown,
                )
        steps.reached("refusal recorded")
        if self._before is not None:
            self._before.setdefault(key, known)
        # Not before it is recorded: what is remembered is not recorded again.
        if refused.resolved_how:
            self._known.pop(key, None)
        else:
            retry_at = None if pause is None else self._steady() + pause
            self._known[key] = _Known(identity, refused.reason, retry_at, tries, self._scan)
        if known is None or known.reason != refused.reason:
            log = logger.info if refused.resolved_how else logger.warning
            log(
                "%s %s: %s%s",
                refused.reason,
                escape(path),
                refused.detail,
                f" ({refused.resolved_how})" if refused.resolved_how else "",
            )

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Record what is added meanwhile in one transaction; if that fails, nothing of it is known.

        What was not committed is simply met again. So nothing that cannot be met again, such as a
        file that is deleted, may happen meanwhile.
        """
        before: dict[bytes, _Known | None] = {}
        self._before = before
        try:
            with transaction.atomic():
                yield
        except BaseException:
            for key, known in before.items():
                if known is None:
                    self._known.pop(key, None)
                else:
                    self._known[key] = known
            raise
        finally:
            self._before = None

    def missing(self, path: str, refused: Refused) -> None:
        """Record that something is not there, unless that is recorded and not due yet."""
        known = self._known.get(self._key(path))
        if known is not None and not known.identity:
            known.scan = self._scan
            if known.retry_at is None or self._steady() < known.retry_at:
                return
        self.add(path, None, refused)

    def resolve_missing(self, path: str) -> None:
        """Close the refusal of something that was not there, and is there now."""
        known = self._known.get(self._key(path)) if self._known else None
        if known is not None and not known.identity:
            self._resolve_key(self._key(path), "it is there now")

    def resolve(self, path: str, how: str) -> None:
        """Close the refusal of a path, if there is one: it was taken in after all."""
        if self._known:
            self._resolve_key(self._key(path), how)

    def end_of_scan(self) -> None:
        """Close the refusals of everything that a complete scan did not find any more."""
        gone = [key for key, known in self._known.items() if known.scan != self._scan]
        for start in range(0, len(gone), _PART):
            self._close(gone[start : start + _PART], "no longer in the buffer")
        self._scan += 1

    def refresh(self) -> bool:
        """Forget, now and then, the refusals that a person has decided upon; tell if there were."""
        begin = self._steady()
        if not self._known or begin < self._refresh_at:
            return False
        keys = (
            Refusal.objects.unresolved()
            .filter(storage=self._storage, source=self._source)
            .values_list("key", flat=True)
        )
        standing = {bytes.fromhex(key) for key in keys}
        decided = self._known.keys() - standing
        for key in decided:
            del self._known[key]
        end = self._steady()
        self._refresh_at = end + decisions.REFRESH_S * max(1.0, (end - begin) / REFRESH_COST_S)
        return bool(decided)

    def decision(self, path: str) -> Decision | None:
        """Give what a person has decided about an arrival, if it is not done yet."""
        return self.decisions.get(self._key(path)) if self.decisions else None

    def _resolve_key(self, key: bytes, how: str) -> None:
        if key in self._known:
            self._close([key], how)

    def _close(self, keys: list[bytes], how: str) -> None:
        Refusal.objects.unresolved().filter(key__in=[key.hex() for key in keys]).update(
            resolved_on=timezone.now(), resolved_how=how, resolved_by="finder"
        )
        for key in keys:
            del self._known[key]

    def _key(self, path: str) -> bytes:
        digest = self._prefix.copy()
        digest.update(path.encode("utf-8", "surrogateescape"))
        return digest.digest()


def _identity(stat: os.stat_result) -> str:
    # UP031: twice as fast as an f-string.
    return "%d:%d:%d:%d:%d" % (  # noqa: UP031
        stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
    )  # fmt: skip


def _pause(tries: int, reason: str) -> float:
    """Seconds until a transient refusal is tried again: doubling, with jitter."""
    longest = LONGEST_FULL_S if reason == RefusalReason.STORAGE_FULL else LONGEST_RETRY_S
    pause = min(FIRST_RETRY_S * 2.0 ** min(tries, 10), longest)
    return pause * random.uniform(0.75, 1.25)


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        # File systems hold any number of seconds, far beyond the year 9999.
        return None
