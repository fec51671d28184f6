"""The state of everything, while others change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from buffer.models import File
from ingest import overview, transitions
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status

pytestmark = pytest.mark.django_db


def test_what_waits_is_done_while_it_is_looked_at(
    ingester: Ingester, make_file: Callable[..., File], monkeypatch: pytest.MonkeyPatch
) -> None:
    transitions.create(ingester.pk, [make_file().pk], Status.UNTRIED)
    transitions.create(ingester.pk, [make_file().pk], Status.RERUN)
    waits = Ingestion.objects.get(status=Status.RERUN)
    count = overview.counted

    def counted_and_done(rows: Any, *arguments: Any) -> Any:
        found = count(rows, *arguments)
        if rows.model is Ingestion and found:
            Ingestion.objects.filter(status=Status.UNTRIED).update(status=Status.SUCCESS)
        return found

    monkeypatch.setattr(overview, "counted", counted_and_done)
    (state,) = overview.overview(at_a_glance=True).ingesters
    assert state.counts[Status.RERUN] == 1
    assert state.oldest_waiting == waits.changed_on
