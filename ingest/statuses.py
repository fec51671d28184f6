"""The statuses of a file at an ingester; names are those of the quickstart."""

from __future__ import annotations

from django.db.models import TextChoices


class Status(TextChoices):
    """Where a file stands at one ingester.

    Only `ingest.transitions` writes statuses; its docstring has the table of what leads to what.
    """

    # Known, not tried yet.
    UNTRIED = "UNTRIED"
    # Claimed by a worker; an attempt is due or under way.
    PENDING = "PENDING"
    # Ingested.
    SUCCESS = "SUCCESS"
    # Refused by the target.
    FAILURE = "FAILURE"
    # An attempt began and nobody saw how it ended.
    UNKNOWN = "UNKNOWN"
    # Not matched by the include list, or matched by the exclude list.
    IGNORED = "IGNORED"
    # Missing from storage, or empty.
    INVALID = "INVALID"
    # An operator asked for another attempt.
    RERUN = "RERUN"
    # Was in storage before this system.
    BACKFILL = "BACKFILL"


#: Statuses that `ingester.file_status` may name, in the order in which they are claimed: an
#: operator's request never waits behind a backlog.
CLAIMABLE: tuple[Status, ...] = (
    Status.RERUN,
    Status.UNTRIED,
    Status.UNKNOWN,
    Status.FAILURE,
    Status.INVALID,
    Status.IGNORED,
    Status.BACKFILL,
)

#: What a daemon takes when `file_status` is not set.
DEFAULT_WANTED: tuple[Status, ...] = (Status.UNTRIED, Status.RERUN)

#: Outcomes that an operator may have to look at.
NEEDS_A_PERSON: tuple[Status, ...] = (Status.FAILURE, Status.UNKNOWN, Status.INVALID)

#: What the history of a file that simply gets in does not have.
RARE: tuple[Status, ...] = tuple(
    status for status in Status if status not in (Status.UNTRIED, Status.PENDING, Status.SUCCESS)
)
