"""Pausing and resuming: by the commands, in the admin, and who remembers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin import helpers
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import Client
from django.urls import reverse

from buffer import operator_pauses
from buffer.models import Component, ComponentKind, OperatorPause
from buffer.operator_pauses import Pausable, Watch

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>\u202e\x1b[2J"


@pytest.fixture(autouse=True)
def files_of_pages_are_found_late(settings: Any) -> None:
    """Each client would list all static files first."""
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture
def run() -> Component:
    host = socket.gethostname()
    return Component.objects.create(kind="finder", subject="/data/buffer", host=host, pid=7)


@pytest.fixture
def finder(run: Component) -> Pausable:
    found = Pausable.of(run)
    assert found is not None
    return found


def command(name: str, *options: str) -> str:
    out = StringIO()
    call_command(name, *options, stdout=out)
    return out.getvalue()


def test_a_pause_stands_until_it_is_ended(finder: Pausable) -> None:
    assert operator_pauses.look(finder) == ""
    assert operator_pauses.pause(finder, user="ann", note="new disk")
    first = operator_pauses.look(finder)
    assert first.startswith("paused by ann since 20") and first.endswith(" UTC: new disk")
    assert not operator_pauses.pause(finder, user="bob", note="me too")
    assert operator_pauses.look(finder) == first
    assert operator_pauses.resume(finder, user="cat", note="done")
    assert not operator_pauses.resume(finder, user="cat")
    assert operator_pauses.look(finder) == ""
    row = OperatorPause.objects.get()
    assert (row.paused_by, row.note, row.resumed_by, row.resume_note) == (
        "ann", "new disk", "cat", "done",
    )  # fmt: skip
    assert row.resumed_on is not None and row.resumed_on >= row.paused_on
    assert operator_pauses.pause(finder, user="ann")
    assert OperatorPause.objects.count() == 2


def test_one_does_not_pause_the_others(finder: Pausable) -> None:
    operator_pauses.pause(finder, user="ann")
    assert not operator_pauses.look(Pausable(ComponentKind.FINDER, finder.subject, "elsewhere"))
    assert not operator_pauses.look(Pausable(ComponentKind.FINDER, "/data", finder.host))
    assert not operator_pauses.look(Pausable(ComponentKind.INGESTER, finder.subject))


def test_what_cannot_be_paused() -> None:
    assert Pausable.of(Component(kind=ComponentKind.AUDIT, subject="x", host="h")) is None
    ingester = Pausable.of(Component(kind=ComponentKind.INGESTER, subject="x", host="h"))
    assert ingester == Pausable(ComponentKind.INGESTER, "x")


def test_hostile_notes(finder: Pausable) -> None:
    operator_pauses.pause(finder, user="ann", note=f"a\nb {HOSTILE}" + "x" * 5000)
    text = operator_pauses.look(finder)
    assert "\n" not in text and "\x1b" not in text and "\u202e" not in text
    assert len(OperatorPause.objects.get().note) == operator_pauses.NOTE_CHARS


def test_who_watches_does_not_ask_all_the_time(
    finder: Pausable, django_assert_num_queries: Callable[[int], Any]
) -> None:
    now = [0.0]
    watch = Watch(finder, clock=lambda: now[0])
    with django_assert_num_queries(1):
        assert watch.look() == watch.look() == ""
    operator_pauses.pause(finder, user="ann")
    assert watch.look() == ""
    now[0] += operator_pauses.LOOK_EVERY_S
    assert watch.look().startswith("paused by ann")


def test_who_watches_outlasts_the_database(
    finder: Pausable, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    watch = Watch(finder, clock=lambda: now[0])
    operator_pauses.pause(finder, user="ann")
    paused = watch.look()

    def away(what: Pausable) -> str:
        raise OperationalError("gone")

    # It would close the connection that the test's transaction is open on.
    monkeypatch.setattr("buffer.outages.away", lambda error: None)
    with monkeypatch.context() as gone:
        gone.setattr(operator_pauses, "look", away)
        now[0] += 1
        assert watch.look() == paused != ""
    operator_pauses.resume(finder, user="ann")
    now[0] += 1
    assert watch.look() == ""


# Commands


def test_commands_for_a_finder(finder: Pausable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    what = f"finder /data/buffer on {finder.host}"
    options = ("--finder", "data/buffer/", "--user", "ann", "--note", "new disk")
    assert command("pause", *options) == f"{what}: paused\n"
    assert command("pause", *options).startswith(f"{what}: was paused by ann since")
    assert operator_pauses.look(finder).endswith("new disk")
    assert command("resume", *options) == f"{what}: goes on\n"
    assert command("resume", *options) == f"{what}: was not paused\n"


def test_commands_for_an_ingester(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "login")
    Component.objects.create(kind="ingester", subject="gen3", host="beta", pid=7)
    assert command("pause", "--ingester", "gen3") == "ingester gen3: paused\n"
    assert OperatorPause.objects.get().paused_by == "login"
    # It is paused, whether or not anybody remembers its last run.
    Component.objects.all().delete()
    assert command("resume", "--ingester", "gen3") == "ingester gen3: goes on\n"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--ingester", "gen4"], "there is no ingester gen4 .known: finder /data/buffer on|none"),
        (["--finder", "/elsewhere"], "there is no finder /elsewhere on"),
        (["--finder", "/data/buffer", "--host", "elsewhere"], "there is no finder"),
        (["--ingester", "gen3", "--host", "h"], "paused on all hosts"),
    ],
)
def test_bad_usage(run: Component, options: list[str], error: str) -> None:
    for name in ("pause", "resume"):
        with pytest.raises(CommandError, match=error) as caught:
            command(name, *options)
        assert caught.value.returncode == 2
    assert not OperatorPause.objects.exists()


# The admin


def post(client: Client, action: str, row: Component, **fields: str) -> Any:
    form = {"action": action, helpers.ACTION_CHECKBOX_NAME: [row.pk], **fields}
    return client.post(reverse("admin:buffer_component_changelist"), form, follow=True)


def test_the_admin_asks_why_and_keeps_it(
    admin_client: Client, run: Component, finder: Pausable
) -> None:
    page = post(admin_client, "pause_selected", run).content.decode()
    assert "Note:" in page and str(finder) in page
    assert not OperatorPause.objects.exists()
    answer = post(admin_client, "pause_selected", run, confirmed="yes", note=HOSTILE)
    assert f"{finder}: paused.".lower() in answer.content.decode().lower()
    row = OperatorPause.objects.get()
    assert (row.paused_by, row.note) == ("admin", HOSTILE)
    entry = LogEntry.objects.get()
    assert entry.object_id == str(run.pk) and entry.change_message.endswith(f"Note: {HOSTILE}")
    for name in ("changelist", "change"):
        args = [] if name == "changelist" else [row.pk]
        text = admin_client.get(reverse(f"admin:buffer_operatorpause_{name}", args=args)).content
        assert b"<script>alert" not in text and "\u202e" not in text.decode()
        assert b"&lt;script&gt;alert" in text
    again = post(admin_client, "pause_selected", run, confirmed="yes")
    assert "was paused before" in again.content.decode()
    assert LogEntry.objects.count() == 1
    post(admin_client, "resume_selected", run, confirmed="yes", note="done")
    assert operator_pauses.look(finder) == ""
    assert LogEntry.objects.count() == 2


def test_the_admin_pauses_nothing_else(admin_client: Client) -> None:
    audit = Component.objects.create(kind="audit", subject="files", host="h", pid=7)
    text = post(admin_client, "pause_selected", audit, confirmed="yes").content.decode()
    assert "Only finders and ingesters can be paused" in text
    assert not OperatorPause.objects.exists()
