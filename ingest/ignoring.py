"""Causes of failures that a person has decided to live with: they call for nobody.

What a file's status is does not change by it, and neither does what is tried again.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from ingest.models import IgnoredCause, Ingester


def ignore(ingester: Ingester, cause: str, *, user: str, note: str) -> bool:
    """Ignore a cause from now on.

    Parameters
    ----------
    ingester : `Ingester`
        Where.
    cause : `str`
        The normalised message.
    user, note : `str`
        Who decides, and why.

    Returns
    -------
    done : `bool`
        False if it was ignored already.
    """
    try:
        with transaction.atomic():
            IgnoredCause.objects.create(ingester=ingester, cause=cause, ignored_by=user, note=note)
    except IntegrityError:
        return False
    return True


def take_back(ingester: Ingester, cause: str, *, user: str, note: str = "") -> bool:
    """Ignore a cause no longer.

    Returns
    -------
    done : `bool`
        False if it was not ignored.
    """
    standing = IgnoredCause.objects.filter(
        ingester=ingester, cause=cause, taken_back_on__isnull=True
    )
    return bool(
        standing.update(taken_back_on=timezone.now(), taken_back_by=user, taken_back_note=note)
    )


def decision(ingester: Ingester, cause: str) -> IgnoredCause | None:
    """Give the decision to ignore a cause, if it stands."""
    return IgnoredCause.objects.filter(
        ingester=ingester, cause=cause, taken_back_on__isnull=True
    ).first()
