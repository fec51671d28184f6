"""When a file is tried again by itself."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from django.utils import timezone

from ingest.config import Retry
from ingest.statuses import Status


def next_attempt_on(
    retry: Retry | None, status: Status, attempts: int, *, transient: bool
) -> datetime | None:
    """Say when a file is due again after an attempt.

    Parameters
    ----------
    retry : `Retry` or `None`
        The configuration; None: never.
    status : `Status`
        How the attempt ended.
    attempts : `int`
        How many there have been.
    transient : `bool`
        Whether the plugin says that time may help. An outcome that nobody saw counts as such.

    Returns
    -------
    due : `datetime.datetime` or `None`
        None: it is not tried again until an operator asks.
    """
    if retry is None or not transient:
        return None
    if status not in retry.statuses or attempts >= retry.max_attempts:
        return None
    pause = min(retry.backoff * 2.0 ** min(attempts - 1, 30), retry.max_backoff)
    return timezone.now() + timedelta(seconds=pause * random.uniform(0.8, 1.2))
