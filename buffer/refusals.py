"""Arrivals that were not taken in: recorded once, remembered, and closed when they are gone.

A refusal is looked up by what the arrival *is* (device, inode, size, times), so that an arrival
that did not change is neither read nor recorded again: a hundred thousand of them cost a cycle no
more than the walk that finds them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from django.utils import timezone

from buffer import decisions, refusing, steps
from buffer.decisions import Decisions
from buffer.models import TRANSIENT_REASONS, Decision, Refusal, Storage
from buffer.names import escape
from buffer.refusing import Draft, Refused, full_identity
from buffer.settling import state_of

logger = logging.getLogger(__name__)

#: A look at what stands that takes longer than this comes less often in proportion; seconds.
REFRESH_COST_S: Final = 0.1
#: Whether what stands is what we know is told by its number; this often it is read; seconds.
READ_EVERY_S: Final = 300.0
_PART: Final = 500


@dataclass(slots=True)
class _Known:
    identity: str
    reason: str
    #: By the steady clock; None: only a change of the arrival makes another look worth it.
    retry_at: float | None
    tries: int = 0
    scan: int = 0
    #: Its key among those that were met as they are; 0: it was not met since it was recorded.
    met_as: int = 0


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
        # Those of them that were met unchanged, and that time alone will not change: by 64 bits of
        # path and state, which cost a third of the digest.
        self._met: dict[int, _Known] = {}
        prefix = f"{storage.pk}\0{source}\0".encode("utf-8", "surrogateescape")
        self._prefix = hashlib.blake2b(prefix, digest_size=16)
        # How many of this source stood that are not among them, when all were read: of a backfill
        # there, committed without our hearing of it, or opened again by somebody.
        self._unknown = 0
        self._read_on = steady()
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
        met_as = hash((path, state_of(stat)))
        known = self._met.get(met_as) if not self.decisions else None
        if known is not None:
            known.scan = self._scan
            return True
        key = self._key(path)
        known = self._known.get(key)
        if known is None:
            return False
        known.scan = self._scan
        if known.identity != full_identity(stat):
            return False
        if known.retry_at is not None:
            return self._steady() < known.retry_at
        known.met_as, self._met[met_as] = met_as, known
        return self.decisions.get(key) is None

    def stands_for_good(self, path: str, stat: os.stat_result) -> bool:
        """Tell whether an arrival was refused, and time alone will not change that."""
        known = self._known.get(self._key(path)) if self._known else None
        return (
            known is not None and known.retry_at is None and known.identity == full_identity(stat)
        )

    def is_transient(self, path: str) -> bool:
        """Tell whether a path has a standing refusal that time may heal."""
        return self.reason(path) in TRANSIENT_REASONS

    def reason(self, path: str) -> str:
        """Give the reason of a path's standing refusal; '' if there is none."""
        known = self._known.get(self._key(path)) if self._known else None
        return "" if known is None else known.reason

    def add(self, path: str, stat: os.stat_result | None, why_not: Refused) -> None:
        """Record one refusal, as `add_all` does."""
        self.add_all([(path, stat, why_not)])

    def add_all(self, arrivals: Iterable[tuple[str, os.stat_result | None, Refused]]) -> None:
        """Record refusals, all or none, with one line in the log for each that is new.

        What could not be recorded is met again, unless it is gone by then, as a duplicate is that
        was deleted.

        Parameters
        ----------
        arrivals : `~collections.abc.Iterable`
            Of each its path below the source as the file system has it, what it is (None if it is
            gone), and why it was refused.
        """
        drafts = {}
        for path, stat, why_not in arrivals:
            key = self._key(path)
            known = self._known.get(key)
            tries = known.tries + 1 if known and known.reason == why_not.reason else 0
            pause = refusing.pause_s(why_not.reason, tries)
            drafts[key] = Draft(key, path, stat, why_not, tries, pause)
        refusing.write(self._storage, self._source, drafts.values())
        steps.reached("refusals recorded")
        # Not before they are recorded: what is remembered is not recorded again.
        for draft in drafts.values():
            self._remember(draft)

    def _remember(self, draft: Draft) -> None:
        why_not = draft.refused
        known = self._forget(draft.key)
        if not why_not.resolved_how:
            pause = draft.pause_s
            retry_at = None if pause is None else self._steady() + pause
            self._known[draft.key] = _Known(
                draft.identity, why_not.reason, retry_at, draft.tries, self._scan
            )
        if known is None or known.reason != why_not.reason:
            logger.log(
                logging.INFO if why_not.resolved_how else logging.WARNING,
                "%s %s: %s%s",
                why_not.reason,
                escape(draft.path),
                why_not.detail,
                f" ({why_not.resolved_how})" if why_not.resolved_how else "",
            )

    def missing(self, path: str, why_not: Refused) -> None:
        """Record that something is not there, unless that is recorded and not due yet."""
        known = self._known.get(self._key(path))
        if known is not None and not known.identity:
            known.scan = self._scan
            if known.retry_at is None or self._steady() < known.retry_at:
                return
        self.add(path, None, why_not)

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
        decided = self._decided()
        for key in decided:
            self._forget(key)
        end = self._steady()
        self._refresh_at = end + decisions.REFRESH_S * max(1.0, (end - begin) / REFRESH_COST_S)
        return bool(decided)

    def _decided(self) -> set[bytes]:
        rows = Refusal.objects.unresolved().filter(storage=self._storage, source=self._source)
        # Hardly anybody else adds to them, so that as many as before are the same ones; and to
        # count a hundred thousand costs a quarter of reading them.
        now = self._steady()
        lately = now - self._read_on < READ_EVERY_S
        if lately and rows.count() == len(self._known) + self._unknown:
            return set()
        self._read_on = now
        standing = {bytes.fromhex(key) for key in rows.values_list("key", flat=True)}
        self._unknown = len(standing - self._known.keys())
        return self._known.keys() - standing

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
            self._forget(key)

    def _forget(self, key: bytes) -> _Known | None:
        known = self._known.pop(key, None)
        if known is not None:
            self._met.pop(known.met_as, None)
        return known

    def _key(self, path: str) -> bytes:
        digest = self._prefix.copy()
        digest.update(path.encode("utf-8", "surrogateescape"))
        return digest.digest()
