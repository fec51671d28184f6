"""The loop of runingester, without workers: what it says and when it ends."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin import helpers
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from buffer import operator_pauses
from buffer.models import Component, ComponentKind, File, Storage
from buffer.operator_pauses import Pausable
from ingest import transitions
from ingest.config import IngesterFile
from ingest.explain import explain
from ingest.ingester import run_ingester
from ingest.loop import HeldBack
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status

MakeFile = Callable[..., File]


def config() -> IngesterFile:
    return IngesterFile.model_validate(
        {
            "database": {"tablenames": {"event": {"table": "gen3_file_events"}}},
            "ingester": {"plugin": {"name": "NullIngest"}},
        }
    )


@pytest.fixture
def paused(ingester: Ingester) -> Pausable:
    what = Pausable(ComponentKind.INGESTER, ingester.name)
    operator_pauses.pause(what, user="ann", note="new disk")
    return what


def once() -> dict[str, int]:
    return run_ingester(config(), once=True, external_workers=True)


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_to_end_says_that_it_is_paused(
    storage: Storage, ingester: Ingester, paused: Pausable, make_file: MakeFile
) -> None:
    make_file()
    with pytest.raises(HeldBack, match=r"paused by ann since .*: new disk. Files wait; manage"):
        once()
    run = Component.objects.get(kind=ComponentKind.INGESTER)
    assert run.stopped_on is not None
    # It opens what has arrived all the same.
    assert Ingestion.objects.get().status == Status.UNTRIED


@pytest.mark.django_db(transaction=True)
def test_paused_with_nothing_to_do_it_ends_as_ever(ingester: Ingester, paused: Pausable) -> None:
    assert once() == {}


@pytest.mark.django_db(transaction=True)
def test_lost_claims_are_counted(ingester: Ingester, make_file: MakeFile) -> None:
    files = [make_file() for _ in range(2)]
    transitions.create(ingester.pk, [file.pk for file in files], Status.IGNORED)
    past = timezone.now() - timedelta(seconds=5)
    Ingestion.objects.filter(file=files[0]).update(claim=uuid.uuid4(), lease_until=past)
    once()
    assert Ingestion.objects.filter(claim=None).count() == 2
    run = Component.objects.get(kind=ComponentKind.INGESTER)
    assert run.counters == {"lease_rescues": 1}


@pytest.mark.django_db
def test_status_and_explain_say_so(
    ingester: Ingester, paused: Pausable, make_file: MakeFile
) -> None:
    file = make_file()
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    text = operator_pauses.look(paused)
    Component.objects.create(kind="ingester", subject=ingester.name, host="h", pid=1, message=text)

    def status(*options: str) -> str:
        out = StringIO()
        call_command("status", *options, stdout=out)
        return out.getvalue()

    table = status()
    assert f"ingester {ingester.name}: {text}" in table
    assert table.count("new disk") == 2, "one of them is the component's"
    (pause,) = json.loads(status("--json"))["operator_pauses"]
    assert (pause["kind"], pause["by"], pause["note"]) == ("ingester", "ann", "new disk")
    found: Any = explain(file.path).files[0].ingesters[0]
    assert f"{text}; manage.py resume --ingester {ingester.name}" in found.next


@pytest.mark.django_db
def test_the_admin_pauses_an_ingester_and_says_so(
    admin_client: Client, ingester: Ingester, settings: Any
) -> None:
    settings.WHITENOISE_AUTOREFRESH = True
    url = reverse("admin:ingest_ingester_changelist")

    def act(action: str) -> None:
        rows = {helpers.ACTION_CHECKBOX_NAME: [ingester.pk]}
        form = {"action": action, "confirmed": "yes", "note": "new disk", **rows}
        assert admin_client.post(url, form).status_code == 302

    act("pause_selected")
    what = Pausable(ComponentKind.INGESTER, ingester.name)
    text = operator_pauses.look(what)
    assert text.startswith("paused by admin since") and text.endswith("new disk")
    assert text in admin_client.get(url).content.decode()
    act("resume_selected")
    assert not operator_pauses.look(what)
    assert "new disk" not in admin_client.get(url).content.decode()
    assert LogEntry.objects.filter(object_id=str(ingester.pk)).count() == 2
