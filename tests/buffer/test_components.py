"""Heartbeats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from buffer import components, outages
from buffer.components import Heartbeat, live
from buffer.models import Component, ComponentKind

pytestmark = pytest.mark.django_db


def begin() -> Heartbeat:
    return Heartbeat.begin(ComponentKind.FINDER, "/buffer", settings={"a": 1})


def test_a_run_from_begin_to_end() -> None:
    with begin() as heartbeat:
        assert live(ComponentKind.FINDER).filter(subject="/buffer").count() == 1
        heartbeat.beat(message="waits", counters={"stored": 3})
        row = Component.objects.get()
        assert (row.message, row.counters, row.settings) == ("waits", {"stored": 3}, {"a": 1})
    assert live(ComponentKind.FINDER).count() == 0
    assert Component.objects.get().message == ""


def test_writes_seldom_but_tells_changes_at_once(django_assert_num_queries: object) -> None:
    heartbeat = begin()
    queries = django_assert_num_queries
    heartbeat.beat(message="")
    with queries(0):  # type: ignore[operator]
        heartbeat.beat(message="")
        heartbeat.beat()
    with queries(3):  # type: ignore[operator]
        heartbeat.beat(message="full")
        heartbeat.beat()
        heartbeat.beat(message="full", now=True)
        heartbeat.beat(message="")


def test_silent_ones_do_not_live() -> None:
    begin()
    long_ago = timezone.now() - timedelta(seconds=components.SILENT_AFTER_S + 1)
    Component.objects.update(seen_on=long_ago)
    assert live(ComponentKind.FINDER).count() == 0


def silent(**fields: Any) -> int:
    """A run that ended while the database was away, or that stands still."""
    row_id = begin().id
    long_ago = timezone.now() - timedelta(seconds=components.SILENT_AFTER_S + 1)
    Component.objects.filter(pk=row_id).update(**{"seen_on": long_ago, **fields})
    return row_id


def test_the_next_start_closes_a_run_that_could_not_say_that_it_ended() -> None:
    dead = silent(pid=2**22 + 1)
    same_pid = silent()  # in a container every command has the same
    begin()
    for row in Component.objects.filter(pk__in=[dead, same_pid]):
        assert row.stopped_on == row.seen_on
    assert live(ComponentKind.FINDER).count() == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"pid": 1},
        {"pid": 2**22 + 1, "host": "another"},
        {"pid": 2**22 + 1, "subject": "/another"},
        {"pid": 2**22 + 1, "kind": ComponentKind.INGESTER},
        {"pid": 2**22 + 1, "seen_on": Now()},
    ],
)
def test_the_next_start_closes_no_run_that_may_be_alive(fields: dict[str, Any]) -> None:
    other = silent(**fields)
    begin()
    assert Component.objects.get(pk=other).stopped_on is None


def test_old_rows_go() -> None:
    begin()
    Component.objects.update(seen_on=timezone.now() - timedelta(days=8))
    begin()
    assert Component.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_database_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heartbeat = begin()

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(outages, "_since", None)
        patch.setattr(QuerySet, "update", fail)
        heartbeat.beat(message="x")
    assert "the database cannot be used, trying again: gone" in caplog.text
    heartbeat.beat(message="x")
    assert Component.objects.get().message == "x"


@contextmanager
def away_for(statements: int) -> Iterator[None]:
    """A database that fails a number of statements, and then answers."""
    left = statements

    def fail(execute: Any, *args: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise OperationalError("gone")
        return execute(*args)

    with connection.execute_wrapper(fail):
        yield


@pytest.mark.django_db(transaction=True)
def test_a_run_that_ends_while_the_database_is_away_says_so_when_it_is_back() -> None:
    heartbeat = begin()
    with away_for(statements=2):
        heartbeat.stop()
    assert Component.objects.get().stopped_on is not None


@pytest.mark.django_db(transaction=True)
def test_a_run_that_ends_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "LAST_WORDS_S", 0.2)
    heartbeat = begin()
    with away_for(statements=1000):
        heartbeat.stop()
    assert Component.objects.get().stopped_on is None


@pytest.mark.django_db(transaction=True)
def test_the_end_of_a_session_waits_for_nothing() -> None:
    heartbeat = Heartbeat.begin(ComponentKind.SESSION, "target")
    with away_for(statements=1):
        heartbeat.stop()
    assert Component.objects.get().stopped_on is None
