"""What alerts of ingesters go by, and where they are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from buffer import alerts
from buffer.models import Component, File
from ingest import tallies, transitions
from ingest.config import IngesterAlerts
from ingest.models import FileEvent, Ingester, Ingestion, Tally
from ingest.statuses import Status

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


@pytest.fixture
def watch(ingester: Ingester) -> Callable[..., None]:
    """Set thresholds of the ingester, and look."""

    def set_and_look(**thresholds: Any) -> None:
        config = IngesterAlerts.model_validate(thresholds)
        Ingester.objects.update(settings={"alerts": config.model_dump(mode="json")})
        alerts.check()

    return set_and_look


def conditions() -> list[str]:
    return sorted(alert.condition for alert in alerts.raised())


def test_silence(ingester: Ingester, make_file: MakeFile, watch: Callable[..., None]) -> None:
    Ingester.objects.update(created_on=timezone.now() - timedelta(hours=3))
    watch(silence_hours=4)
    assert conditions() == []
    watch(silence_hours=2)
    assert conditions() == ["SILENCE"]
    transitions.create(ingester.pk, [make_file().pk], Status.UNTRIED)
    watch(silence_hours=2)
    assert conditions() == []
    FileEvent.objects.update(start_time=timezone.now() - timedelta(hours=3))
    watch(silence_hours=2)
    assert conditions() == ["SILENCE"]


def test_backlog(ingester: Ingester, make_file: MakeFile, watch: Callable[..., None]) -> None:
    watch(oldest_waiting_minutes=10)
    assert conditions() == []
    transitions.create(ingester.pk, [make_file().pk, make_file().pk], Status.UNTRIED)
    watch(oldest_waiting_minutes=10)
    assert conditions() == []
    Ingestion.objects.update(changed_on=timezone.now() - timedelta(minutes=11))
    watch(oldest_waiting_minutes=10)
    (alert,) = alerts.raised()
    assert alert.detail.startswith("2 files wait, the oldest since 20")


def tally(ingester: Ingester, *recent: tuple[float, int, int]) -> None:
    """Record outcomes: minutes ago, tried, failed."""
    now = timezone.now().timestamp()
    spans = [[now - 60 * ago, tried, failed] for ago, tried, failed in recent]
    tallies.begin(ingester.pk)
    Tally.objects.update(recent=spans)


@pytest.mark.parametrize(
    ("recent", "raised"),
    [
        ([(1, 10, 1)], False),
        ([(1, 10, 2)], True),
        ([(1, 9, 9)], False),
        ([(30, 5, 5), (1, 5, 5)], True),
        ([(70, 100, 100), (1, 50, 0)], False),
        ([(70, 100, 0), (1, 50, 50)], True),
        ([], False),
    ],
)
def test_failures(
    ingester: Ingester,
    watch: Callable[..., None],
    recent: list[tuple[float, int, int]],
    raised: bool,
) -> None:
    tally(ingester, *recent)
    watch(failure_percent=20)
    assert conditions() == (["FAILURES"] if raised else [])


def test_outcomes_of_late_are_kept_apart(ingester: Ingester, make_file: MakeFile) -> None:
    tally(ingester, (60 * 26, 7, 7), (60, 4, 1))
    files = [make_file() for _ in range(3)]
    transitions.create(ingester.pk, [file.pk for file in files], Status.UNTRIED)
    outcomes = (Status.SUCCESS, Status.FAILURE, Status.IGNORED)
    for row, status in zip(Ingestion.objects.order_by("pk"), outcomes, strict=True):
        step = transitions.Step(row.pk, row.file_id, Status.UNTRIED, None, status, 1)
        assert transitions.apply(ingester.pk, [step])
    for _ in range(3):
        Tally.objects.update(seen_on=timezone.now() - timedelta(minutes=1))
        tallies.count(ingester.pk)
    row = Tally.objects.get()
    assert [span[1:] for span in row.recent] == [[4, 1], [2, 1]]
    assert tallies.outcomes_since(row, timezone.now() - timedelta(hours=2)) == (6, 2)
    assert tallies.outcomes_since(row, timezone.now() - timedelta(minutes=10)) == (2, 1)


def test_nothing_is_expected_of_one_that_was_stopped(
    ingester: Ingester, watch: Callable[..., None]
) -> None:
    Ingester.objects.update(created_on=timezone.now() - timedelta(hours=3))
    fields = {"kind": "ingester", "subject": ingester.name, "pid": 1}
    Component.objects.create(host="alpha", stopped_on=timezone.now(), **fields)
    watch(silence_hours=2)
    assert conditions() == []
    Component.objects.create(host="beta", **fields)
    watch(silence_hours=2)
    assert conditions() == ["SILENCE"]


def test_where_they_are_shown(
    client: Client, ingester: Ingester, watch: Callable[..., None]
) -> None:
    Ingester.objects.update(created_on=timezone.now() - timedelta(hours=3))
    watch(silence_hours=2)

    def status(*options: str) -> str:
        out = StringIO()
        call_command("status", *options, stdout=out)
        return out.getvalue()

    assert f"ALERT ingester {ingester.name}: no file was opened or tried since" in status()
    (alert,) = json.loads(status("--json"))["alerts"]
    assert (alert["condition"], alert["subject"]) == ("SILENCE", ingester.name)
    series = client.get("/metrics").content.decode()
    labels = f'component="ingester",condition="SILENCE",host="",subject="{ingester.name}"'
    assert f"endpoint_alert{{{labels}}} 1.0" in series
