"""Ingesters by name, and what their workers are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from buffer.components import Heartbeat
from buffer.models import ComponentKind, File, Storage
from buffer.problems import ConfigError
from ingest import targets
from ingest.claims import Lane
from ingest.config import IngesterFile, IngesterSection
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status
from ingest.targets import Run

pytestmark = pytest.mark.django_db


def file(plugin: str = "NullIngest", name: str = "null_events", **keys: Any) -> IngesterFile:
    return IngesterFile.model_validate(
        {
            "database": {"tablenames": {"event": {"table": name}}},
            "ingester": {"plugin": {"name": plugin}, **keys},
        }
    )


def section(**keys: Any) -> IngesterSection:
    return IngesterSection.model_validate({"plugin": {"name": "NullIngest"}, **keys})


def test_register_makes_a_row_and_remembers_the_configuration(storage: Storage) -> None:
    ingester = targets.register(file(batch_size=7), storage)
    assert (ingester.name, ingester.plugin, ingester.storage) == (
        "null_events",
        "NullIngest",
        storage,
    )
    assert ingester.settings["batch_size"] == 7
    assert targets.register(file(batch_size=8), storage).pk == ingester.pk
    assert Ingester.objects.get().settings["batch_size"] == 8


def test_an_ingester_made_by_backfill_is_filled_in(storage: Storage) -> None:
    made = Ingester.objects.create(name="null_events", storage=storage)
    assert targets.register(file(), storage).pk == made.pk
    made.refresh_from_db()
    assert made.plugin == "NullIngest"


def test_without_retry_nothing_is_to_be_tried_again_by_itself(
    storage: Storage, make_file: Callable[..., File], caplog: pytest.LogCaptureFixture
) -> None:
    ingester = targets.register(file(retry={}), storage)
    due = timezone.now()
    for status in (Status.FAILURE, Status.UNKNOWN):
        Ingestion.objects.create(
            file=make_file(), ingester=ingester, status=status, next_attempt_on=due
        )
    targets.register(file(retry={}), storage)
    assert Ingestion.objects.filter(next_attempt_on=due).count() == 2
    other = Heartbeat.begin(ComponentKind.INGESTER, ingester.name)
    targets.register(file(), storage)
    assert Ingestion.objects.filter(next_attempt_on=due).count() == 2, "another run may retry them"
    other.stop()
    targets.register(file(), storage)
    (left,) = Ingestion.objects.filter(next_attempt_on__isnull=False)
    assert left.status == Status.UNKNOWN
    assert "1 files were to be tried again by themselves" in caplog.text


def test_a_history_is_not_mixed_with_another_plugin_s(storage: Storage) -> None:
    targets.register(file(), storage)
    Ingester.objects.update(plugin="Gen2Ingest")
    with pytest.raises(ConfigError, match=r"tablenames\.event\.table.*Gen2Ingest.*NullIngest"):
        targets.register(file(), storage)


def test_nor_with_another_storage_s(storage: Storage, tmp_path: Path) -> None:
    targets.register(file(), storage)
    other = Storage.objects.create(name="other", root=str(tmp_path))
    with pytest.raises(ConfigError, match="storage 'files'"):
        targets.register(file(), other)


def test_workers_read_what_the_command_wrote(storage: Storage, ingester: Ingester) -> None:
    config = section(
        include_list=[r"\.fits$"], file_status="RERUN", retry={"max_attempts": 3}, timeout=2.5
    )
    run = Run.begin(ingester, config)
    heartbeat = Heartbeat.begin(ComponentKind.INGESTER, "x", settings=run.settings())
    assert Run.load(heartbeat.id) == replace(run, id=heartbeat.id)
    assert run.root == storage.root
    assert run.plugin == "ingest.plugins.null.NullIngest"


def test_another_mount_of_the_storage(ingester: Ingester, tmp_path: Path) -> None:
    assert Run.begin(ingester, section(storage=str(tmp_path))).root == str(tmp_path)


def test_lanes_of_a_daemon(ingester: Ingester) -> None:
    """What an operator asked for goes first, then questions, then what is new."""
    assert Run.begin(ingester, section()).lanes() == [
        Lane(Status.RERUN),
        Lane(Status.UNKNOWN, due=True),
        Lane(Status.UNTRIED),
    ]


def test_lanes_with_retries_and_old_failures(ingester: Ingester) -> None:
    run = Run.begin(ingester, section(file_status=["FAILURE", "BACKFILL"], retry={}))
    assert run.lanes() == [
        Lane(Status.UNKNOWN, due=True),
        Lane(Status.FAILURE, due=True),
        Lane(Status.BACKFILL, due=True),
        Lane(Status.FAILURE, before_event=run.first_event),
        Lane(Status.BACKFILL, before_event=run.first_event),
    ]
