"""Retries: off unless configured, transient only, doubling, bounded."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from ingest.config import Retry
from ingest.retries import next_attempt_on
from ingest.statuses import Status


def seconds(retry: Retry | None, attempts: int, **kwargs: object) -> float | None:
    status = kwargs.pop("status", Status.FAILURE)
    due = next_attempt_on(retry, status, attempts, transient=bool(kwargs.pop("transient", True)))  # type: ignore[arg-type]
    return None if due is None else (due - timezone.now()) / timedelta(seconds=1)


def test_never_unless_configured() -> None:
    assert seconds(None, 1) is None


def test_permanent_failures_are_not_tried_again() -> None:
    assert seconds(Retry(), 1, transient=False) is None


@pytest.mark.parametrize(("attempts", "pause"), [(1, 30), (2, 60), (3, 120), (4, 240)])
def test_pauses_double_with_jitter(attempts: int, pause: float) -> None:
    found = seconds(Retry(max_attempts=9), attempts)
    assert found is not None
    assert 0.75 * pause <= found <= 1.25 * pause


def test_pauses_are_bounded() -> None:
    found = seconds(Retry(max_attempts=5000, max_backoff=100.0), 4000)
    assert found is not None
    assert found <= 125


def test_attempts_are_bounded() -> None:
    assert seconds(Retry(max_attempts=3), 2) is not None
    assert seconds(Retry(max_attempts=3), 3) is None


def test_only_the_outcomes_that_were_named() -> None:
    assert seconds(Retry(statuses=[Status.FAILURE]), 1, status=Status.UNKNOWN) is None
