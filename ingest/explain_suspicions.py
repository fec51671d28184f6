"""What audits have found about a file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from buffer.audit_findings import proposal
from buffer.models import File, FindingKind, Suspicion
from buffer.names import escape

_SOME: Final = 20


@dataclass(frozen=True, slots=True)
class SuspicionFacts:
    """A time that an audit found it wrong."""

    kind: str
    detail: str
    proposal: str
    found_on: datetime
    found_by: str
    seen_on: datetime
    standing: bool
    cleared: str


def suspicions_of(file: File) -> list[SuspicionFacts]:
    """Tell of the newest marks of a file, newest first."""
    whole = escape(file.path_below(file.storage.root))
    rows = Suspicion.objects.filter(file=file).order_by("-id")[:_SOME]
    return [_facts(row, whole) for row in rows]


def _facts(row: Suspicion, whole: str) -> SuspicionFacts:
    return SuspicionFacts(
        kind=row.kind,
        detail=row.detail,
        proposal=proposal(FindingKind(row.kind), whole),
        found_on=row.found_on,
        found_by=row.found_by,
        seen_on=row.seen_on,
        standing=row.cleared_on is None,
        cleared=row.cleared_how,
    )
