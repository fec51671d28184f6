"""Heartbeats."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.db.models import QuerySet
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
