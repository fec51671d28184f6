"""The page by which finders and ingesters are paused: what it tells, who may, what is forged."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils.http import urlencode

from buffer import operator_pauses
from buffer.models import Component, ComponentKind, OperatorPause
from buffer.names import escape
from buffer.operator_pauses import Pausable
from buffer.pause_pages import pausing_url
from ingest.models import Ingester
from tests.ingest.desk import HOSTILE, SHOWN, client_of, text_of

pytestmark = pytest.mark.django_db

SOURCE = f"/data/\\x41 {HOSTILE}"


@pytest.fixture
def finder() -> Pausable:
    """A finder that ran twice and runs no more; its directory has a name that means harm."""
    for pid in (7, 8):
        Component.objects.create(kind="finder", subject=SOURCE, host="alpha", pid=pid)
    return Pausable(ComponentKind.FINDER, SOURCE, "alpha")


@pytest.fixture
def target(ingester: Ingester) -> Pausable:
    """An ingester that was never started."""
    return Pausable(ComponentKind.INGESTER, ingester.name)


def url_of(what: Pausable) -> str:
    return pausing_url(what.kind, escape(what.subject), what.host)


def operator() -> Client:
    return client_of("view_operatorpause", "pause", "view_ingestion")


def send(client: Client, what: Pausable, action: str, note: str = "") -> Any:
    return client.post(url_of(what), {"action": action, "note": note}, follow=True)


def test_the_front_page_says_of_a_finder_that_it_is_paused(finder: Pausable) -> None:
    client = client_of("view_operatorpause", "pause", "view_ingestion", "view_component")
    front = reverse("admin:index")
    before = client.get(front).content
    assert b"badge-running" in before and b"badge-paused" not in before
    send(client, finder, "pause")
    after = client.get(front).content
    assert b"badge-paused" in after and b"badge-running" not in after


@pytest.mark.parametrize("name", ["finder", "target"])
def test_paused_and_resumed(name: str, request: pytest.FixtureRequest) -> None:
    what: Pausable = request.getfixturevalue(name)
    client = operator()
    page = text_of(client.get(url_of(what)))
    assert "nothing else is begun" in page and "It was never paused" in page
    assert 'value="Pause"' in page and 'value="Resume"' not in page
    answer = send(client, what, "pause", f"new disk {HOSTILE}\0")
    assert answer.redirect_chain == [(reverse("admin:index"), 302)]
    assert ": paused." in text_of(answer)
    assert operator_pauses.look(what).startswith("paused by clerk0 since")
    page = text_of(client.get(url_of(what)))
    assert "Work goes on" in page and "it stands" in page and "clerk0" in page
    assert f"new disk {SHOWN}" in page and HOSTILE not in page
    assert 'value="Resume"' in page and 'value="Pause"' not in page
    assert ": goes on." in text_of(send(client, what, "resume", "disk is in"))
    assert operator_pauses.look(what) == ""
    page = text_of(client.get(url_of(what)))
    assert "new disk" in page and "disk is in" in page and "it stands" not in page


def test_it_is_logged_as_the_lists_log_it(
    finder: Pausable, target: Pausable, ingester: Ingester
) -> None:
    client = operator()
    send(client, finder, "pause", "new disk")
    send(client, target, "pause")
    newest = Component.objects.latest("pk")
    logged = LogEntry.objects.order_by("pk").values_list("object_id", "change_message")
    assert list(logged) == [
        (str(newest.pk), f"{finder}: paused. Note: new disk"),
        (str(ingester.pk), f"{target}: paused."),
    ]
    assert str(target) in text_of(
        client_of("view_ingester").get(reverse("admin:ingest_ingester_history", args=[ingester.pk]))
    )


def test_somebody_was_faster(finder: Pausable) -> None:
    client = operator()
    operator_pauses.pause(finder, user="ann", note="new disk")
    assert "was paused before" in text_of(send(client, finder, "pause", "me too"))
    assert operator_pauses.look(finder).endswith("new disk")
    operator_pauses.resume(finder, user="ann")
    assert "was not paused" in text_of(send(client, finder, "resume"))
    assert not LogEntry.objects.exists()


def test_of_what_is_forgotten_the_pause_is_known(finder: Pausable) -> None:
    operator_pauses.pause(finder, user="ann")
    Component.objects.all().delete()
    assert ": goes on." in text_of(send(operator(), finder, "resume"))
    assert LogEntry.objects.get().object_id == str(OperatorPause.objects.get().pk)


def test_long_histories_are_cut(finder: Pausable) -> None:
    client = operator()
    for n in range(21):
        operator_pauses.pause(finder, user="ann", note=f"note {n}.")
        operator_pauses.resume(finder, user="ann")
        page = text_of(client.get(url_of(finder)))
        assert ("list of all" in page) == (n == 20)
    assert "note 1." in page and "note 0." not in page


def test_who_only_looks(finder: Pausable) -> None:
    operator_pauses.pause(finder, user="ann")
    client = client_of("view_operatorpause")
    page = text_of(client.get(url_of(finder)))
    assert "it stands" in page and 'type="submit" value=' not in page
    assert send(client, finder, "resume").status_code == 403
    assert client_of("pause").get(url_of(finder)).status_code == 403
    assert operator_pauses.look(finder)


@pytest.mark.parametrize(
    "forged",
    [
        {},
        {"kind": "FINDER"},
        {"kind": "audit", "subject": "/data", "host": "alpha"},
        {"kind": "session"},
        {"kind": "ingester", "subject": "gen4"},
        {"kind": "ingester", "subject": escape(SOURCE)},
        {"host": "beta"},
        {"host": ""},
        {"host": "alpha\0"},
        {"subject": SOURCE},  # that is not how it is shown
        {"subject": "/data"},
        {"subject": r"/\x00"},
        {"subject": r"/\ud800"},
        {"subject": ""},
    ],
)
def test_forged_addresses(forged: dict[str, str], finder: Pausable, ingester: Ingester) -> None:
    Component.objects.create(kind="audit", subject="/data", host="alpha", pid=9)
    named = {"kind": "finder", "subject": escape(SOURCE), "host": "alpha"}
    query = {**named, **forged} if forged else {}
    url = f"{reverse('buffer:pausing')}?{urlencode(query)}"
    client = operator()
    assert client.get(url).status_code == 404
    assert client.post(url, {"action": "pause"}).status_code == 404
    assert not OperatorPause.objects.exists()


def test_an_ingester_has_no_host(target: Pausable) -> None:
    # Nobody would heed that pause.
    url = pausing_url(target.kind, target.subject, "alpha")
    assert operator().get(url).status_code == 404
    assert operator().post(url, {"action": "pause"}).status_code == 404


def test_forged_actions(finder: Pausable) -> None:
    for action in ("", "PAUSE", "delete"):
        assert send(operator(), finder, action).status_code == 404
    assert not OperatorPause.objects.exists()


def test_the_front_page_leads_there(finder: Pausable, target: Pausable) -> None:
    Component.objects.create(kind="audit", subject="files", host="alpha", pid=9)
    Component.objects.filter(pid=7).delete()
    client = operator()
    links = {what: f'href="{url_of(what)}"'.replace("&", "&amp;") for what in (finder, target)}
    page = text_of(client.get(reverse("admin:index")))
    assert page.count(">Pause&hellip;") == 2 and ">Resume&hellip;" not in page
    for what, link in links.items():
        assert page.count(link) == 1
        operator_pauses.pause(what, user="ann")
    page = text_of(client.get(reverse("admin:index")))
    assert page.count(">Resume&hellip;") == 2 and ">Pause&hellip;" not in page
    # Once in its row, and once among what needs a person.
    assert all(page.count(link) == 2 for link in links.values())
    page = text_of(client_of("view_ingestion", "view_operatorpause").get(reverse("admin:index")))
    assert "Resume&hellip;" not in page
    assert all(page.count(link) == 1 for link in links.values())
