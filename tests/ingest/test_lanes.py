"""What a worker sees when it looks for work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from buffer.models import File
from ingest import claims, lanes, transitions
from ingest.claims import Lane
from ingest.lanes import Lanes
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status
from ingest.transitions import Step

pytestmark = pytest.mark.django_db

KINDS = [Lane(Status.RERUN), Lane(Status.UNTRIED)]


@pytest.fixture
def ids(ingester: Ingester, make_file: Callable[..., File]) -> list[int]:
    """Give the ingestions of six files that wait untried."""
    transitions.create(ingester.pk, [make_file().pk for _ in range(6)], Status.UNTRIED)
    return list(Ingestion.objects.order_by("pk").values_list("pk", flat=True))


@pytest.fixture
def take(ingester: Ingester) -> Callable[..., list[int]]:
    """Look for work and claim some, as a worker does."""

    def take_some(mine: Lanes, limit: int = 2) -> list[int]:
        claim = claims.claim(ingester.pk, mine.look().lanes, limit, "w")
        if claim is None:
            return []
        mine.claimed(claim, limit)
        return [one.ingestion_id for one in claim.files]

    return take_some


def give_back(ids: Sequence[int]) -> None:
    Ingestion.objects.filter(pk__in=ids).update(claim=None, lease_until=None)


def test_it_goes_on_behind_what_it_claimed(ids: list[int], ingester: Ingester, take: Any) -> None:
    mine = Lanes(ingester.pk, ingester.name, KINDS)
    assert take(mine) == ids[:2]
    give_back(ids[:2])
    assert take(mine) == ids[2:4]
    assert take(mine) == ids[4:]
    assert take(mine) == ids[:2], "what came back before, when nothing is left behind"
    assert take(mine) == []
    assert not mine.look().lanes


def test_another_begins_at_the_beginning(ids: list[int], ingester: Ingester, take: Any) -> None:
    assert take(Lanes(ingester.pk, ingester.name, KINDS), 4) == ids[:4]
    give_back(ids[:1])
    assert take(Lanes(ingester.pk, ingester.name, KINDS)) == [ids[0], ids[4]]


def test_now_and_then_it_looks_from_the_beginning(
    ids: list[int], ingester: Ingester, take: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Lanes(ingester.pk, ingester.name, KINDS)
    take(mine)
    give_back(ids[:2])
    assert take(mine, 1) == [ids[2]]
    now = lanes.time.monotonic() + lanes.FROM_THE_BEGINNING_EVERY_S
    monkeypatch.setattr(lanes.time, "monotonic", lambda: now)
    assert take(mine, 1) == [ids[0]]


def test_a_rerun_goes_first_wherever_it_is(ids: list[int], ingester: Ingester, take: Any) -> None:
    mine = Lanes(ingester.pk, ingester.name, KINDS)
    assert take(mine, 3) == ids[:3]
    give_back(ids[:1])
    row = Ingestion.objects.get(pk=ids[0])
    step = Step(row.pk, row.file_id, Status.UNTRIED, None, Status.RERUN, 0)
    transitions.apply(ingester.pk, [step])
    assert take(mine) == [ids[0]]
    assert take(mine) == ids[3:5]


def test_nothing_is_asked_twice_once_all_is_claimed(
    ids: list[int], ingester: Ingester, take: Any, django_assert_num_queries: Any
) -> None:
    mine = Lanes(ingester.pk, ingester.name, KINDS)
    assert take(mine, len(ids) + 1) == ids
    with django_assert_num_queries(1):
        assert not mine.look().lanes
