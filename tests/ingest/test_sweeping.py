"""Claims that nobody renews any more; what a set clock does is in tests/faults/test_clocks.py."""

from __future__ import annotations

import pytest

from ingest import claims, sweeping, transitions
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.statuses import Status
from ingest.transitions import Step
from tests.ingest.test_claims import LANES, MakeFile, begin, lapse, open_files

pytestmark = pytest.mark.django_db


def test_sweep_frees_what_never_began(ingester: Ingester, make_file: MakeFile) -> None:
    open_files(ingester, make_file, 2)
    claims.claim(ingester.pk, LANES, 2, "w")
    assert sweeping.sweep(ingester.pk, "sweeper") == sweeping.Swept([], 0)
    lapse()
    assert sweeping.sweep(ingester.pk, "sweeper") == sweeping.Swept([], 2)
    assert FileEvent.objects.count() == 2


def test_sweep_makes_lost_attempts_unknown(ingester: Ingester, make_file: MakeFile) -> None:
    (file,) = open_files(ingester, make_file, 1)
    claim = claims.claim(ingester.pk, LANES, 1, "w")
    assert claim is not None
    begin(ingester, claim)
    lapse()
    assert sweeping.sweep(ingester.pk, "sweeper").unknown == [file.pk]
    row = Ingestion.objects.get()
    assert (row.status, row.claim, row.attempts) == (Status.UNKNOWN, None, 1)
    late = Step(row.pk, row.file_id, Status.PENDING, claim.token, Status.SUCCESS, 1)
    assert transitions.apply(ingester.pk, [late]) == [], "the worker came back too late"
    statuses = FileEvent.objects.order_by("id").values_list("status", flat=True)
    assert list(statuses) == [Status.UNTRIED, Status.PENDING, Status.UNKNOWN]
