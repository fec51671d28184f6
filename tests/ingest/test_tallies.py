"""Counting events as they come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models import F

from buffer.models import File
from ingest import rerun, tallies, transitions
from ingest.models import FileEvent, Ingester, Ingestion, Tally
from ingest.statuses import Status
from ingest.transitions import Step
from tests.plans import plans_of

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


def later() -> None:
    """Let half a minute pass."""
    Tally.objects.update(seen_on=F("seen_on") - timedelta(seconds=tallies.SETTLE_S + 1))


def count(ingester: Ingester) -> int:
    """Count what there is now: what is seen first is counted when it has settled."""
    later()
    counted = tallies.count(ingester.pk)
    later()
    return counted + tallies.count(ingester.pk)


def attempt(ingester: Ingester, file: File, status: Status, seconds: float) -> None:
    row = Ingestion.objects.get(ingester=ingester, file=file)
    step = Step(row.pk, file.pk, Status(row.status), None, status, 1, duration=seconds)
    assert transitions.apply(ingester.pk, [step])


def test_each_event_is_counted_once(ingester: Ingester, make_file: MakeFile) -> None:
    tallies.begin(ingester.pk)
    files = [make_file() for _ in range(3)]
    transitions.create(ingester.pk, [file.pk for file in files], Status.UNTRIED)
    assert count(ingester) == 3
    attempt(ingester, files[0], Status.SUCCESS, 0.1)
    attempt(ingester, files[1], Status.FAILURE, 2.0)
    rerun.rerun(Ingestion.objects.filter(file=files[1]), user="ann")
    assert count(ingester) == 3
    assert count(ingester) == 0
    tally = Tally.objects.get()
    assert tally.events == {"UNTRIED": 3, "SUCCESS": 1, "FAILURE": 1, "RERUN": 1}
    assert sum(tally.attempts["counts"]) == 2
    assert tally.attempts["sum_s"] == pytest.approx(2.1)
    assert tally.attempts["counts"][2:5] == [1, 0, 1]


def test_events_that_have_not_settled_wait(ingester: Ingester, make_file: MakeFile) -> None:
    tallies.begin(ingester.pk)
    transitions.create(ingester.pk, [make_file().pk], Status.UNTRIED)
    assert tallies.count(ingester.pk) == 0
    later()
    # Seen now; those with lower ids that are yet to be committed are not missed.
    assert tallies.count(ingester.pk) == 0
    assert tallies.count(ingester.pk) == 0
    later()
    assert tallies.count(ingester.pk) == 1


def test_history_before_the_first_start_is_not_counted(
    ingester: Ingester, make_file: MakeFile
) -> None:
    transitions.create(ingester.pk, [make_file().pk], Status.UNTRIED)
    tallies.begin(ingester.pk)
    assert count(ingester) == 0
    tallies.begin(ingester.pk)
    transitions.create(ingester.pk, [make_file().pk], Status.UNTRIED)
    assert count(ingester) == 1


def test_only_its_own(ingester: Ingester, make_file: MakeFile) -> None:
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    tallies.begin(ingester.pk)
    tallies.begin(other.pk)
    transitions.create(other.pk, [make_file().pk], Status.UNTRIED)
    assert (count(ingester), count(other)) == (0, 1)


def test_many_are_counted_in_slices(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "SLICE", 2)
    tallies.begin(ingester.pk)
    transitions.create(ingester.pk, [make_file().pk for _ in range(5)], Status.UNTRIED)
    later()
    tallies.count(ingester.pk)
    later()
    assert [tallies.count(ingester.pk) for _ in range(4)] == [2, 2, 1, 0]
    assert Tally.objects.get().events == {"UNTRIED": 5}


def test_two_hosts_count_once(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    tallies.begin(ingester.pk)
    transitions.create(ingester.pk, [make_file().pk], Status.UNTRIED)
    later()
    tallies.count(ingester.pk)
    later()
    add = tallies._add

    def overtaken(tally: Tally, events: object) -> int:
        monkeypatch.setattr(tallies, "_add", add)
        assert tallies.count(ingester.pk) == 1
        return add(tally, events)

    monkeypatch.setattr(tallies, "_add", overtaken)
    assert tallies.count(ingester.pk) == 0
    assert Tally.objects.get().events == {"UNTRIED": 1}


@pytest.mark.django_db
def test_the_cost_is_that_of_new_events(ingester: Ingester, make_file: MakeFile) -> None:
    from django.db import connection

    if connection.vendor != "sqlite":
        pytest.skip("plans are those of SQLite")
    tallies.begin(ingester.pk)
    transitions.create(ingester.pk, [make_file().pk], Status.UNTRIED)
    with plans_of(FileEvent._meta.db_table) as plans:
        assert count(ingester) == 1
    assert plans
    assert all("ingest_fileevent_ingester" in plan or "PRIMARY KEY" in plan for plan in plans)
    assert not any("SCAN ingest_fileevent" in plan for plan in plans)
