"""Sessions of workers: for whom they work, and for whom no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from django.db.models.functions import Now
from pytest_django import Settings

from buffer.models import Component, ComponentKind, File
from ingest import ingester as module
from ingest import sessions, transitions
from ingest.config import IngesterSection
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status
from ingest.targets import Run
from ingest.worker import Worker

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


@pytest.fixture(autouse=True)
def short_sessions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sessions, "SESSION_S", 0.6)
    monkeypatch.setattr(sessions, "UNAVAILABLE_S", 0.1)
    monkeypatch.setattr(sessions, "_said", "")
    # Which is in a transaction here.
    monkeypatch.setattr(sessions, "close_old_connections", lambda: None)
    yield
    while sessions._workers:
        sessions._workers.popitem()[1].close()


@pytest.fixture
def run(ingester: Ingester) -> Component:
    """A run of an ingester with the null plugin that goes on."""
    section = IngesterSection.model_validate({"plugin": {"name": "NullIngest"}})
    return Component.objects.create(
        kind=ComponentKind.INGESTER,
        subject=ingester.name,
        host="a",
        pid=1,
        settings=Run.begin(ingester, section).settings(),
    )


def status_of_one(ingester: Ingester, make_file: MakeFile, run: Component) -> str:
    file = make_file(content=b"x")
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    sessions.ingester_session(run.pk)
    return Ingestion.objects.get(file=file).status


def test_a_session_works(ingester: Ingester, make_file: MakeFile, run: Component) -> None:
    assert status_of_one(ingester, make_file, run) == Status.SUCCESS


def test_a_wake_up_of_a_run_that_has_ended_does_nothing(
    ingester: Ingester, make_file: MakeFile, run: Component
) -> None:
    Component.objects.filter(pk=run.pk).update(stopped_on=Now())
    assert status_of_one(ingester, make_file, run) == Status.UNTRIED
    Component.objects.all().delete()
    assert status_of_one(ingester, make_file, run) == Status.UNTRIED


def test_a_session_leaves_when_its_run_ends(
    run: Component, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SESSION_S", 30.0)
    monkeypatch.setattr(sessions, "LOOK_AT_RUN_S", 0.1)

    def end_the_run() -> int:
        Component.objects.filter(pk=run.pk).update(stopped_on=Now())
        return 0

    monkeypatch.setattr("ingest.worker.Worker.step", lambda self: end_the_run())
    begun = time.monotonic()
    sessions.ingester_session(run.pk)
    assert time.monotonic() - begun < 20


def test_no_batch_is_begun_of_a_run_that_has_ended(run: Component) -> None:
    worker = Worker(Run.load(run.pk), stopping=lambda: False, beat=lambda: None)
    assert worker._lanes.may_claim()
    Component.objects.filter(pk=run.pk).update(stopped_on=Now())
    assert not worker._lanes.may_claim()


def test_a_host_without_the_plugin_says_so_once(
    run: Component,
    ingester: Ingester,
    make_file: MakeFile,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run.settings["section"]["plugin"]["name"] = "elsewhere.Plugin"
    run.save()
    settings.INGEST_PLUGINS = []
    assert status_of_one(ingester, make_file, run) == Status.UNTRIED
    sessions.ingester_session(run.pk)
    said = [line for line in caplog.messages if "elsewhere.Plugin" in line]
    assert len(said) == 1 and "INGEST_PLUGINS" in said[0]


def test_nobody_to_wake_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK_FOR_CREW_S", 0.0)
    monkeypatch.setattr(module, "CREW_ABSENT_S", 0.2)
    crew = module._Crew()
    assert crew.lacks(waiting=True) == ""
    time.sleep(0.3)
    assert crew.lacks(waiting=True) == crew.lacks(waiting=True) == module.NO_CREW
    assert caplog.messages == [module.NO_CREW]
    Component.objects.create(kind=ComponentKind.WORKERS, subject="h", host="h", pid=1, workers=2)
    assert crew.lacks(waiting=True) == ""
    Component.objects.all().delete()
    assert crew.lacks(waiting=True) == ""
    time.sleep(0.3)
    assert crew.lacks(waiting=True) == module.NO_CREW
    assert crew.lacks(waiting=False) == "", "somebody was faster than our look"


def test_the_longest_session_lets_every_file_use_up_its_time_twice() -> None:
    section = IngesterSection.model_validate({"plugin": {"name": "NullIngest"}, "timeout": 600})
    # A batch of 10 that hangs, is asked about, and is tried one by one.
    assert module.longest_session_s(section) > 10 * 600 + 600 + 10 * (600 + 120)
