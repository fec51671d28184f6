"""How often the outcomes of a batch are written."""

from __future__ import annotations

import uuid

import pytest

from ingest import ledger as module
from ingest.breaker import Outcome
from ingest.claims import Claim, Claimed
from ingest.ledger import Ledger
from ingest.statuses import Status


@pytest.mark.parametrize(
    ("took_s", "waits_s"),
    [(0.0, 0.25), (0.01, 0.25), (0.1, 1.0), (5.0, 2.0)],
)
def test_writing_takes_no_more_than_a_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch, took_s: float, waits_s: float
) -> None:
    now = 100.0
    monkeypatch.setattr("ingest.ledger.time.monotonic", lambda: now)
    monkeypatch.setattr(module, "_took_s", took_s)
    claimed = Claimed(1, 1, Status.UNTRIED, 0, "a.fits")
    ledger = Ledger(Claim(1, uuid.uuid4(), "me", [claimed]))
    written: list[float] = []
    monkeypatch.setattr(ledger, "_flush", lambda: written.append(now))
    ledger.add(Outcome(ledger.step(claimed, Status.SUCCESS, Status.PENDING, 1)))
    now += waits_s - 0.01
    ledger.flush_if_due()
    assert not written
    now += 0.02
    ledger.flush_if_due()
    assert written
