from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from buffer.models import File
from ingest import claims, transitions
from ingest.claims import Claim, Lane
from ingest.lanes import Lanes
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status

MakeFile = Callable[..., File]

UNTRIED, RERUN = Lane(Status.UNTRIED), Lane(Status.RERUN)


@pytest.fixture
def lanes(ingester: Ingester, make_file: MakeFile) -> Lanes:
    """Lanes with five new files."""
    transitions.create(ingester.pk, [make_file().pk for _ in range(5)], Status.UNTRIED)
    return Lanes(ingester.pk, [RERUN, UNTRIED])


def take(lanes: Lanes, ingester: Ingester, limit: int) -> Claim | None:
    """Claim what a look has found, as a worker does."""
    claim = claims.claim(ingester.pk, lanes.look(ingester.name).lanes, limit, "w")
    lanes.took(claim, limit)
    return claim


def asked_of(lanes: Lanes, ingester: Ingester) -> str:
    """Look, and give the statement of that."""
    with CaptureQueriesContext(connection) as queries:
        lanes.look(ingester.name)
    (query,) = queries.captured_queries
    return str(query["sql"])


def test_a_lane_that_gave_a_whole_batch_is_not_asked(lanes: Lanes, ingester: Ingester) -> None:
    assert "'UNTRIED' AND" in asked_of(lanes, ingester)
    take(lanes, ingester, 2)
    assert lanes.look(ingester.name).lanes == [UNTRIED]
    sql = asked_of(lanes, ingester)
    assert "'UNTRIED' AND" not in sql and "'RERUN' AND" in sql
    take(lanes, ingester, 4)
    assert "'UNTRIED' AND" in asked_of(lanes, ingester), "less than a batch was left"


def test_it_is_asked_again_when_it_has_nothing(lanes: Lanes, ingester: Ingester) -> None:
    take(lanes, ingester, 5)
    assert lanes.look(ingester.name).lanes == [UNTRIED]
    assert take(lanes, ingester, 5) is None
    assert "'UNTRIED' AND" in asked_of(lanes, ingester)
    assert lanes.look(ingester.name).lanes == []


def test_others_are_noticed_meanwhile_and_come_first(lanes: Lanes, ingester: Ingester) -> None:
    take(lanes, ingester, 2)
    free = Ingestion.objects.filter(claim__isnull=True).first()
    assert free is not None
    Ingestion.objects.filter(pk=free.pk).update(status=Status.RERUN)
    assert lanes.look(ingester.name).lanes == [RERUN, UNTRIED]
    claim = take(lanes, ingester, 2)
    assert claim is not None and [one.status for one in claim.files] == [Status.RERUN]
