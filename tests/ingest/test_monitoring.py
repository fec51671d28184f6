"""What machines ask the web server for: /healthz, /readyz and /metrics."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from buffer import database, database_ready, dialect
from buffer.histograms import TAKE_IN_S, Histogram
from buffer.models import Component, File, Refusal
from ingest import readiness, tallies, transitions
from ingest.models import Ingester, Ingestion, Tally
from ingest.statuses import Status
from tests.plans import plans_of

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(client: Client, **headers: str) -> Series:
    response = client.get("/metrics", headers=headers)
    assert response.status_code == 200, response.content
    found: Series = {}
    for family in text_string_to_metric_families(response.content.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "a series is there twice"
            found[key] = sample.value
    return found


def value(series: Series, name: str, **labels: str) -> float:
    return series[name, frozenset(labels.items())]


@pytest.fixture
def finder() -> Component:
    take_ins = Histogram(TAKE_IN_S)
    take_ins.observe(0.3)
    return Component.objects.create(
        kind="finder",
        subject="/data/buffer",
        host="alpha",
        pid=7,
        counters={"stored": 5, "refused": 2, "waiting": 3},
        measures={
            "take_in": take_ins.plain(),
            "stored_at": 1_800_000_000.5,
            "free_bytes": {"buffer": 1000, "storage": None},
            "kept": [".incoming/lost-1", ".incoming/lost-2"],
        },
        canary_s=0.5,
    )


# healthz


def test_the_process_is_up(client: Client, django_assert_num_queries: Callable[[int], Any]) -> None:
    with django_assert_num_queries(0):
        response = client.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok\n")
    assert client.post("/healthz").status_code == 405


# readyz


def ready(client: Client) -> dict[str, list[str]]:
    """Give what is not ready."""
    response = client.get("/readyz")
    plain = response.json()
    wrong = {name: texts for name, texts in plain["faults"].items() if texts}
    assert response.status_code == (503 if wrong else 200)
    assert plain["ready"] is not bool(wrong)
    assert set(plain["faults"]) == {"database", "migrations", "components", "canary"}
    return wrong


def test_ready(client: Client, finder: Component) -> None:
    assert ready(client) == {}


def test_a_component_that_is_silent(client: Client, finder: Component) -> None:
    Component.objects.update(seen_on=timezone.now() - timedelta(minutes=2))
    (text,) = ready(client)["components"]
    assert text.startswith(f"finder {finder.pk} was not heard of for 1")
    assert "/data" not in text


def test_a_component_that_was_started_again(client: Client, finder: Component) -> None:
    Component.objects.update(seen_on=timezone.now() - timedelta(minutes=2))
    Component.objects.create(kind="finder", subject="/data/buffer", host="alpha", pid=8)
    assert ready(client) == {}


def test_a_component_that_was_stopped(client: Client, finder: Component) -> None:
    Component.objects.update(
        seen_on=timezone.now() - timedelta(minutes=2), stopped_on=timezone.now()
    )
    assert ready(client) == {}


def test_workers_that_do_not_work(client: Client, finder: Component) -> None:
    Component.objects.update(canary_s=readiness.CANARY_S + 1)
    assert ready(client) == {
        "canary": [f"workers of finder {finder.pk} leave wake-ups waiting for 31 s"]
    }


def test_a_migration_is_missing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise database.DatabaseError("database postgres://a:hunter2@h: 1 migration is missing")

    monkeypatch.setattr(database_ready, "require_migrated", missing)
    assert ready(client) == {
        "migrations": ["the tables are not those of this version: run manage.py migrate"]
    }


def test_no_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("postgres://a:hunter2@h is away")

    monkeypatch.setattr(dialect, "clock", away)
    assert ready(client) == {"database": ["does not answer"]}
    response = client.get("/metrics")
    assert (response.status_code, b"hunter2" in response.content) == (503, False)


# metrics


def test_numbers(
    client: Client, ingester: Ingester, make_file: MakeFile, finder: Component
) -> None:
    tallies.begin(ingester.pk)
    files = [make_file() for _ in range(5)]
    transitions.create(ingester.pk, [file.pk for file in files[:4]], Status.UNTRIED)
    rows = list(Ingestion.objects.order_by("pk"))
    for row, status in zip(rows, (Status.FAILURE, Status.SUCCESS), strict=False):
        step = transitions.Step(row.pk, row.file_id, Status.UNTRIED, None, status, 1, duration=0.4)
        transitions.apply(ingester.pk, [step])
    now = timezone.now()
    Ingestion.objects.filter(pk=rows[3].pk).update(changed_on=now - timedelta(hours=2))
    Ingestion.objects.filter(pk=rows[2].pk).update(
        claim=uuid.uuid4(), lease_until=now + timedelta(minutes=1)
    )
    Ingester.objects.update(watermark=files[3].pk)
    for _ in range(2):
        Tally.objects.update(seen_on=now - timedelta(minutes=2))
        tallies.count(ingester.pk)
    Refusal.objects.create(storage=ingester.storage, source="/b", path="x", key="1", reason="EIO")
    Component.objects.create(
        kind="ingester", subject=ingester.name, host="alpha", pid=9, counters={"lease_rescues": 4}
    )
    series = scrape(client)
    name = {"ingester": ingester.name}
    assert value(series, "endpoint_waiting_files", **name) == 3
    assert 7100 < value(series, "endpoint_oldest_waiting_seconds", **name) < 7300
    assert value(series, "endpoint_held_files", **name) == 1
    assert value(series, "endpoint_failed_files", **name, status="FAILURE") == 1
    assert value(series, "endpoint_failed_files", **name, status="UNKNOWN") == 0
    assert value(series, "endpoint_events_total", **name, status="UNTRIED") == 4
    assert value(series, "endpoint_events_total", **name, status="SUCCESS") == 1
    assert value(series, "endpoint_events_total", **name, status="RERUN") == 0
    assert value(series, "endpoint_attempt_duration_seconds_count", **name) == 2
    assert value(series, "endpoint_attempt_duration_seconds_sum", **name) == pytest.approx(0.8)
    assert value(series, "endpoint_attempt_duration_seconds_bucket", **name, le="1.0") == 2
    assert value(series, "endpoint_attempt_duration_seconds_bucket", **name, le="0.2") == 0
    assert value(series, "endpoint_refusals", reason="EIO") == 1
    assert value(series, "endpoint_refusals", reason="CONFLICT") == 0
    assert value(series, "endpoint_lease_rescues_total", **name, host="alpha") == 4
    where = {"source": "/data/buffer", "host": "alpha"}
    assert value(series, "endpoint_arrivals_total", **where, outcome="stored") == 5
    assert value(series, "endpoint_take_in_duration_seconds_count", **where) == 1
    assert value(series, "endpoint_free_bytes", **where, area="buffer") == 1000
    assert value(series, "endpoint_unsettled_files", **where) == 3
    assert value(series, "endpoint_kept_copies", **where) == 2
    assert value(series, "endpoint_last_stored_timestamp_seconds", **where) == 1_800_000_000.5
    component = {"component": "finder", "subject": "/data/buffer", "host": "alpha"}
    assert value(series, "endpoint_component_up", **component) == 1
    assert value(series, "endpoint_canary_age_seconds", **component) == 0.5


def test_base_units_and_no_names_of_files(
    client: Client, ingester: Ingester, make_file: MakeFile, finder: Component
) -> None:
    file = make_file(filename="secret-target.fits")
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    Refusal.objects.create(
        storage=ingester.storage, source="/b", path="secret.fits", key="1", reason="EIO"
    )
    text = client.get("/metrics").content.decode()
    assert "endpoint_waiting_files" in text and "secret" not in text
    for family in text_string_to_metric_families(text):
        assert family.name.startswith("endpoint_")
        assert not family.name.endswith(("_ms", "_minutes", "_mb", "_kb", "_percent"))


def test_nothing_yet(client: Client) -> None:
    assert value(scrape(client), "endpoint_intents") == 0


def test_hostile_directories_are_labels_all_the_same(client: Client, finder: Component) -> None:
    Component.objects.update(subject='/data/a"b\\c\n\u202e')
    found = {dict(labels).get("source") for _, labels in scrape(client)} - {None}
    assert found == {'/data/a"b\\x5cc\\x0a\\u202e'}


def test_queries_do_not_grow(
    client: Client,
    ingester: Ingester,
    make_file: MakeFile,
    finder: Component,
    django_assert_max_num_queries: Callable[[int], Any],
) -> None:
    transitions.create(ingester.pk, [make_file().pk for _ in range(50)], Status.UNTRIED)
    with django_assert_max_num_queries(20):
        scrape(client)


def test_the_cost_is_that_of_what_waits(
    client: Client, ingester: Ingester, make_file: MakeFile
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("plans are those of SQLite")
    transitions.create(ingester.pk, [make_file().pk], Status.UNTRIED)
    with plans_of("ingest_ingestion") as plans:
        scrape(client)
    assert len(plans) >= 4
    indexes = ("ingest_ingestion_waiting", "ingest_ingestion_claimed", "file_id=?")
    for plan in plans:
        assert any(name in plan for name in indexes), plan
    with plans_of("ingest_fileevent") as plans:
        scrape(client)
    assert plans == []


# Who may read


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.3.2.1", {}, 200),
        ("::1", {}, 200),
        ("10.0.0.7", {}, 403),
        ("::ffff:10.0.0.7", {}, 403),
        ("", {}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "10.0.0.7"}, 403),
        ("127.0.0.1", {"X-Real-IP": "127.0.0.1"}, 403),
        ("127.0.0.1", {"Forwarded": "for=10.0.0.7"}, 403),
        ("127.0.0.1", {"Via": "1.1 proxy"}, 403),
        ("10.0.0.7", {"X-Forwarded-For": "127.0.0.1"}, 403),
    ],
)
def test_without_a_token_only_this_host(
    client: Client, address: str, headers: dict[str, str], status: int
) -> None:
    response = client.get("/metrics", headers=headers, REMOTE_ADDR=address)
    assert response.status_code == status
    assert (b"endpoint_" in response.content) == (status == 200)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("Bearer s3cret", 200),
        ("Bearer s3cre", 403),
        ("s3cret", 403),
        ("Bearer ", 403),
        ("Bearer s3cret\u00e9", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7"])
def test_with_a_token(client: Client, settings: Any, address: str, sent: str, status: int) -> None:
    settings.METRICS_TOKEN = "s3cret"
    response = client.get("/metrics", headers={"Authorization": sent}, REMOTE_ADDR=address)
    assert response.status_code == status
