"""Admin pages of ingesters, ingestions and events, and the RERUN action."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django_q.models import Failure, OrmQ, Schedule, Success

from buffer import operator_pauses
from buffer.models import (
    Component,
    ComponentKind,
    File,
    FindingKind,
    Refusal,
    RefusalReason,
    Suspicion,
)
from buffer.operator_pauses import Pausable
from ingest import admin_rerun, probing, rerun_jobs, transitions
from ingest.cause_pages import cause_url
from ingest.models import Breaker, FileEvent, Ingester, Ingestion
from ingest.probing import Probe
from ingest.statuses import Status
from ingest.transitions import Step

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]

HOSTILE = "<script>alert(1)</script>\u202egnp.exe"
MODELS = ["file", "ingestion", "fileevent", "ingester"]


@pytest.fixture(autouse=True)
def files_of_pages_are_found_late(settings: Any) -> None:
    """Each client would list all static files first."""
    settings.WHITENOISE_AUTOREFRESH = True


def known(
    ingester: Ingester, file: File, status: Status = Status.FAILURE, **fields: Any
) -> Ingestion:
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    row = Ingestion.objects.get(ingester=ingester, file=file)
    if status != Status.UNTRIED:
        values = {"attempts": 1, "cause": "no flat", "message": "no flat of 7", **fields}
        step = Step(row.pk, file.pk, Status.UNTRIED, None, status, **values)
        assert transitions.apply(ingester.pk, [step])
        row.refresh_from_db()
    return row


def hold(row: Ingestion) -> None:
    Ingestion.objects.filter(pk=row.pk).update(
        claim=uuid.uuid4(), lease_until=timezone.now() + timedelta(minutes=1)
    )


def client_of(*permissions: str) -> Client:
    user = User.objects.create_user("clerk", password="x", is_staff=True)
    for name in permissions:
        user.user_permissions.add(Permission.objects.get(codename=name))
    client = Client()
    client.force_login(user)
    return client


def listing(model: str, query: str = "") -> str:
    app = "buffer" if model == "file" else "ingest"
    return reverse(f"admin:{app}_{model}_changelist") + query


def change(model: str, row: Any) -> str:
    app = "buffer" if model == "file" else "ingest"
    return reverse(f"admin:{app}_{model}_change", args=[row.pk])


def page(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def ask(client: Client, url: str, rows: list[Any], **fields: Any) -> Any:
    data = {"action": "rerun_selected", "_selected_action": [row.pk for row in rows], **fields}
    return client.post(url, data, follow=True)


def confirm(client: Client, url: str, rows: list[Any], *ingesters: Ingester, **fields: Any) -> str:
    ids = [row.pk for row in ingesters]
    response = ask(client, url, rows, confirmed="yes", ingester=ids, **fields)
    assert response.status_code == 200
    return response.content.decode()


def statuses() -> list[str]:
    return list(Ingestion.objects.order_by("pk").values_list("status", flat=True))


def assert_in_step() -> None:
    for row in Ingestion.objects.all():
        newest = FileEvent.objects.filter(file=row.file_id, ingester=row.ingester_id).latest("id")
        assert (row.status, row.last_event_id) == (newest.status, newest.pk)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("who", ["superuser", "viewer"])
def test_pages_can_be_read_and_nothing_else(
    admin_client: Client, ingester: Ingester, make_file: MakeFile, model: str, who: str
) -> None:
    row = known(ingester, make_file())
    objects = {
        "file": row.file,
        "ingestion": row,
        "fileevent": row.last_event,
        "ingester": ingester,
    }
    shown = objects[model]
    client = admin_client if who == "superuser" else client_of(*(f"view_{name}" for name in MODELS))
    page(client, listing(model))
    text = page(client, change(model, shown))
    assert 'name="_save"' not in text and "<textarea" not in text
    app = shown._meta.app_label
    assert client.get(reverse(f"admin:{app}_{model}_add")).status_code == 403
    assert client.post(change(model, shown), {"status": "SUCCESS"}).status_code == 403
    delete = reverse(f"admin:{app}_{model}_delete", args=[shown.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403
    client.post(
        listing(model),
        {"action": "delete_selected", "_selected_action": shown.pk, "post": "yes"},
    )
    shown.refresh_from_db()


@pytest.mark.parametrize("model", MODELS)
def test_nobody_sees_nothing(client: Client, model: str) -> None:
    response = client.get(listing(model))
    assert response.status_code == 302 and "login" in response["Location"]
    assert client_of("rerun").get(listing(model)).status_code == 403


def test_pages_of_the_queue_are_gone() -> None:
    for model in (Schedule, Success, Failure, OrmQ):
        assert not admin.site.is_registered(model)
        with pytest.raises(NoReverseMatch):
            reverse(f"admin:django_q_{model._meta.model_name}_changelist")


def test_hostile_names_are_shown_harmless(
    admin_client: Client, ingester: Ingester, make_file: MakeFile
) -> None:
    row = known(
        ingester,
        make_file(filename=HOSTILE),
        cause="<b>c</b>",
        message="<b>m</b>\x1b[2J at postgres://a:hunter2@h",
        note="<i>n</i>",
    )
    urls = [listing(model) for model in MODELS[:3]]
    urls += [
        change("file", row.file),
        change("ingestion", row),
        change("fileevent", row.last_event),
    ]
    for url in urls:
        text = page(admin_client, url)
        assert "<script>alert" not in text and "\u202e" not in text and "\x1b" not in text
        assert "<b>" not in text and "<i>n" not in text and "hunter2" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202egnp.exe" in text
    text = ask(admin_client, listing("ingestion"), [row]).content.decode()
    assert "<script>alert" not in text and "\u202e" not in text
    assert "&lt;script&gt;" in text
    confirm(admin_client, listing("ingestion"), [row], ingester, note="<u>why</u>")
    for url in (
        change("file", row.file),
        reverse("admin:ingest_ingestion_history", args=[row.pk]),
        reverse("admin:index"),
    ):
        assert "<u>why" not in page(admin_client, url)


def test_passwords_of_an_ingester_are_not_shown(admin_client: Client, ingester: Ingester) -> None:
    ingester.settings = {
        "plugin": {"config": {"password": "hunter2", "url": "postgresql://a:hunter2@h/d"}},
        "list": [{"auth_token": "hunter2"}],
    }
    ingester.save()
    text = page(admin_client, change("ingester", ingester))
    assert "hunter2" not in text
    assert "postgresql://a:***@h/d" in text


def test_the_page_of_a_file(
    admin_client: Client, ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    row = known(ingester, make_file())
    known(other, row.file, Status.SUCCESS)
    text = page(admin_client, change("file", row.file))
    events = FileEvent.objects.order_by("-id")
    newest_first = [text.index(change("fileevent", event)) for event in events]
    assert newest_first == sorted(newest_first)
    assert "no flat of 7" in text and "badge-FAILURE" in text and "badge-SUCCESS" in text
    assert "Only the newest" not in text
    monkeypatch.setattr("ingest.admin.TIMELINE", 2)
    text = page(admin_client, change("file", row.file))
    assert "Only the newest 2 are shown" in text
    link = listing("fileevent", f"?file__id__exact={row.file_id}")
    assert link in text
    assert page(admin_client, link).count('class="badge') == 4
    make_file(), known(ingester, make_file())
    assert page(admin_client, link).count('class="badge') == 4
    assert "recorded where it was" in page(admin_client, change("file", make_file()))


def test_what_a_user_may_not_see_is_left_out(ingester: Ingester, make_file: MakeFile) -> None:
    row = known(ingester, make_file())
    client = client_of("view_file")
    for url in (listing("file"), change("file", row.file), reverse("admin:index")):
        text = page(client, url)
        assert "badge-FAILURE" not in text and "no flat" not in text
    assert client.get(listing("ingestion")).status_code == 403


def test_status_in_the_list_of_files(
    admin_client: Client,
    ingester: Ingester,
    make_file: MakeFile,
    django_assert_num_queries: Callable[..., Any],
) -> None:
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    page(admin_client, listing("file"))
    for count in (3, 40):
        for _ in range(count):
            row = known(ingester, make_file())
            known(other, row.file, Status.SUCCESS)
        # Session, user, storages of the filter, count, files, marks, statuses.
        with django_assert_num_queries(7):
            text = page(admin_client, listing("file"))
    assert text.count("badge-FAILURE") == text.count("badge-SUCCESS") == 43


@pytest.mark.parametrize("model", ["ingestion", "fileevent"])
def test_queries_of_lists_do_not_grow(
    admin_client: Client,
    ingester: Ingester,
    make_file: MakeFile,
    django_assert_num_queries: Callable[..., Any],
    model: str,
) -> None:
    page(admin_client, listing(model))
    for count in (3, 40):
        for _ in range(count):
            known(ingester, make_file())
        # Session, user, ingesters of the filter, count, rows; causes to choose from.
        with django_assert_num_queries(6 if model == "ingestion" else 5):
            page(admin_client, listing(model))


def test_filters_and_search(admin_client: Client, ingester: Ingester, make_file: MakeFile) -> None:
    good = known(ingester, make_file(filename="good.fits"), Status.SUCCESS, cause="")
    bad = known(ingester, make_file(filename="bad.fits"))
    hold(bad)
    Ingestion.objects.filter(pk=good.pk).update(
        changed_on=timezone.now() - timedelta(days=2), next_attempt_on=timezone.now()
    )
    make_file(filename="new.fits")
    today = f"{timezone.now():%Y-%m-%d}"
    expected = {
        listing("ingestion", "?status__exact=FAILURE"): "bad",
        listing("ingestion", f"?ingester__id__exact={ingester.pk}&cause=no+flat"): "bad",
        listing("ingestion", "?held=yes"): "bad",
        listing("ingestion", "?held=retry"): "good",
        listing("ingestion", f"?ingester__id__exact={ingester.pk}&status__exact=PENDING"): "",
        listing("ingestion", "?cause=no+flat"): "bad",
        listing("ingestion", "?cause=%00"): "",
        listing("ingestion", f"?day={today}"): "bad good",
        listing("ingestion", "?day=2020-01-01"): "",
        listing("ingestion", "?day=9999-12-31"): "",
        listing("ingestion", "?directory=2026-11-23"): "bad good",
        listing("ingestion", "?directory=2026-11"): "",
        listing("fileevent", f"?day={today}&status__exact=SUCCESS"): "good",
        listing("fileevent", f"?directory={ingester.storage.root}/"): "bad good",
        listing("file", f"?day={today}&size=small"): "bad good new",
        listing("file", "?day=yesterday"): "",
        listing("file", "?size=1G"): "",
        listing("file", "?directory=2026-11-23/"): "bad good new",
        listing("file", "?directory=%00"): "",
        listing("ingestion", "?q=go"): "good",
        listing("ingestion", f"?q={bad.file_id}"): "bad",
        listing("fileevent", "?status__exact=SUCCESS"): "good",
        listing("fileevent", "?q=2026-11-23/bad"): "bad",
        listing("fileevent", "?since=hour"): "bad good",
        listing("file", "?status=FAILURE"): "bad",
        listing("file", "?status=SUCCESS"): "good",
        listing("file", "?status=NONSENSE"): "bad good new",
    }
    for url, names in expected.items():
        text = page(admin_client, url)
        assert " ".join(n for n in ("bad", "good", "new") if f"{n}.fits" in text) == names, url


@pytest.mark.parametrize("model", ["file", "ingestion", "fileevent"])
def test_rerun(admin_client: Client, ingester: Ingester, make_file: MakeFile, model: str) -> None:
    rows = [known(ingester, make_file()) for _ in range(3)]
    hold(rows[1])
    chosen = {
        "file": [row.file for row in rows],
        "ingestion": rows,
        "fileevent": [row.last_event for row in rows],
    }[model]
    response = ask(admin_client, listing(model), chosen)
    text = response.content.decode()
    assert "Selected: <strong>3 " in text
    assert f"{ingester.name}: 3 files" in text
    for row in rows:
        assert row.file.filename in text
    assert statuses() == [Status.FAILURE] * 3
    text = confirm(admin_client, listing(model), chosen, ingester, note="new flats")
    assert "2 files will be tried again; 1 file refused because a worker holds them" in text
    assert statuses() == [Status.RERUN, Status.FAILURE, Status.RERUN]
    event = FileEvent.objects.latest("id")
    assert (event.status, event.user, event.note) == (Status.RERUN, "admin", "new flats")
    assert_in_step()
    entries = LogEntry.objects.all()
    assert len(entries) == 3
    assert all("new flats" in entry.change_message for entry in entries)
    history = reverse(f"admin:{chosen[0]._meta.app_label}_{model}_history", args=[chosen[0].pk])
    assert "RERUN at" in page(admin_client, history)


def test_rerun_of_files_at_chosen_ingesters(
    admin_client: Client, ingester: Ingester, make_file: MakeFile
) -> None:
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    never = Ingester.objects.create(name="never", storage=ingester.storage)
    file, fresh, coming = make_file(), make_file(), make_file(stored_on=None)
    known(ingester, file)
    known(other, file, Status.SUCCESS)
    files = [file, fresh, coming]
    text = ask(admin_client, listing("file"), files).content.decode()
    assert "gen3_file_events: 2 files (1 known there already)" in text
    assert "never: 2 files (0 known there already)" in text
    # Those that have the files are ticked.
    assert f'value="{ingester.pk}" checked' in text and f'value="{other.pk}" checked' in text
    assert f'value="{never.pk}">' in text
    text = confirm(admin_client, listing("file"), files)
    assert "Choose at least one ingester" in text
    assert not Ingestion.objects.filter(status=Status.RERUN).exists()
    text = confirm(admin_client, listing("file"), files, other, never)
    assert "other: 2 files will be tried again" in text
    assert "never: 2 files will be tried again" in text
    assert Ingestion.objects.get(ingester=ingester).status == Status.FAILURE
    assert Ingestion.objects.filter(status=Status.RERUN).count() == 4
    assert_in_step()


def test_rerun_of_all_across_pages(
    admin_client: Client,
    ingester: Ingester,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that the list's filters match, though that changes while it is done."""
    monkeypatch.setattr(admin_rerun, "LOGGED", 10)
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    rows = [known(ingester, make_file()) for _ in range(120)]
    for row in rows:
        known(other, row.file)
    spared = known(ingester, make_file(), Status.SUCCESS)
    for model, query in (("file", "?status=FAILURE"), ("ingestion", "?status__exact=FAILURE")):
        url = listing(model, query)
        first = rows[0].file if model == "file" else rows[0]
        text = ask(admin_client, url, [first], select_across="1").content.decode()
        expected = 120 if model == "file" else 240
        assert f"Selected: <strong>{expected} " in text
        assert "The newest 20 of them" in text
        assert text.count('name="_selected_action"') == 1
        assert 'name="select_across" value="1"' in text
        text = confirm(admin_client, url, [first], ingester, other, select_across="1")
        assert "gen3_file_events: 120 files will be tried again" in text
        assert "other: 120 files will be tried again" in text
        assert Ingestion.objects.filter(status=Status.RERUN).count() == 240
        assert_in_step()
        entry = LogEntry.objects.latest("pk")
        assert entry.object_repr == f"120 {model}s" and entry.object_id is None
        for row in Ingestion.objects.filter(status=Status.RERUN):
            step = Step(row.pk, row.file_id, Status.RERUN, None, Status.FAILURE, 1)
            assert transitions.apply(row.ingester_id, [step])
    spared.refresh_from_db()
    assert spared.status == Status.SUCCESS
    page(admin_client, reverse("admin:index"))


def test_rerun_of_too_many_for_one_request(
    admin_client: Client,
    ingester: Ingester,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rerun_jobs, "MOST", 2)
    rows = [known(ingester, make_file()) for _ in range(3)]
    url = listing("ingestion")
    text = confirm(admin_client, url, rows[:1], ingester, select_across="1")
    assert "3 files are too many for one request" in text and "manage.py rerun" in text
    assert statuses() == [Status.FAILURE] * 3


def test_events_of_one_file_are_one_request(
    admin_client: Client, ingester: Ingester, make_file: MakeFile
) -> None:
    row = known(ingester, make_file())
    events = list(FileEvent.objects.all())
    assert len(events) == 2
    text = ask(admin_client, listing("fileevent"), events).content.decode()
    assert f"{ingester.name}: 1 file" in text
    confirm(admin_client, listing("fileevent"), events, ingester)
    assert FileEvent.objects.filter(file=row.file, status=Status.RERUN).count() == 1


def test_rerun_where_there_is_nothing_to_try(admin_client: Client, make_file: MakeFile) -> None:
    text = ask(admin_client, listing("file"), [make_file()]).content.decode()
    assert "No ingester can try the selected files" in text


@pytest.mark.parametrize("model", ["file", "ingestion", "fileevent"])
def test_rerun_needs_its_permission(ingester: Ingester, make_file: MakeFile, model: str) -> None:
    row = known(ingester, make_file())
    chosen = {"file": row.file, "ingestion": row, "fileevent": row.last_event}[model]
    client = client_of(*(f"view_{name}" for name in MODELS), *(f"change_{name}" for name in MODELS))
    assert "rerun_selected" not in page(client, listing(model))
    for _ in range(2):
        confirm(client, listing(model), [chosen], ingester)
        assert statuses() == [Status.FAILURE]
    assert not LogEntry.objects.exists()
    user = User.objects.get(username="clerk")
    user.user_permissions.add(Permission.objects.get(codename="rerun"))
    assert "rerun_selected" in page(client, listing(model))
    confirm(client, listing(model), [chosen], ingester)
    assert statuses() == [Status.RERUN]
    assert FileEvent.objects.latest("id").user == "clerk"


def test_rerun_needs_a_token_of_our_own_page(ingester: Ingester, make_file: MakeFile) -> None:
    row = known(ingester, make_file())
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root", password="x"))
    assert ask(client, listing("ingestion"), [row], confirmed="yes").status_code == 403
    assert statuses() == [Status.FAILURE]


def test_the_front_page(admin_client: Client, ingester: Ingester, make_file: MakeFile) -> None:
    assert "NullIngest" not in page(admin_client, reverse("admin:index"))
    known(ingester, make_file(), Status.UNTRIED)
    for _ in range(3):
        known(ingester, make_file())
    Component.objects.create(kind="finder", subject="/data/buffer", host="alpha", pid=42)
    Refusal.objects.create(
        storage=ingester.storage, source="/b", path="x", key="k", reason=RefusalReason.CONFLICT
    )
    text = page(admin_client, reverse("admin:index"))
    link = cause_url(ingester.pk, "no flat").replace("&", "&amp;")
    assert f'<a href="{link}">See the cause<' in text
    assert "nobody works for it, and files wait" in text
    assert "alpha (42)" in text
    assert f'<a href="{reverse("buffer:conflicts")}">Decide<' in text
    assert "Endpoint buffer manager" in text


def test_the_front_page_says_that_nothing_is_there(admin_client: Client) -> None:
    text = page(admin_client, reverse("admin:index"))
    assert "No ingester is known yet" in text and "None is running" in text


def test_the_front_page_is_cheap(
    admin_client: Client,
    ingester: Ingester,
    make_file: MakeFile,
    django_assert_max_num_queries: Callable[..., Any],
) -> None:
    for _ in range(20):
        known(ingester, make_file())
    page(admin_client, reverse("admin:index"))
    with django_assert_max_num_queries(66):
        page(admin_client, reverse("admin:index"))


def pause(ingester: Ingester, reason: str = "5 files in a row failed: no answer") -> None:
    now = timezone.now()
    Breaker.objects.create(
        ingester=ingester, message=reason, opened_on=now, probe_on=now + timedelta(minutes=1)
    )


def test_an_ingester_that_pauses_says_why(admin_client: Client, ingester: Ingester) -> None:
    Ingester.objects.create(name="other", storage=ingester.storage)
    pages = [listing("ingester"), change("ingester", ingester), reverse("admin:index")]
    assert "works" in page(admin_client, pages[0])
    pause(ingester, HOSTILE)
    for url in pages:
        text = page(admin_client, url)
        assert "paused since" in text and "probed with one file at" in text
        assert "<script>alert" not in text and "\u202e" not in text


def probe(client: Client, ingester: Ingester) -> str:
    data = {"action": "probe_selected", "_selected_action": [ingester.pk]}
    response = client.post(listing("ingester"), data, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def test_an_ingester_that_a_person_paused(admin_client: Client, ingester: Ingester) -> None:
    process = Component.objects.create(kind="ingester", subject=ingester.name, host="a", pid=1)
    what = Pausable(ComponentKind.INGESTER, ingester.name)
    operator_pauses.pause(what, user="ann", note="the target moves")
    # Its process finds out some time later, and says so too.
    for message in ("", operator_pauses.look(what)):
        Component.objects.filter(pk=process.pk).update(message=message)
        text = page(admin_client, reverse("admin:index"))
        table = text.partition('aria-label="Ingesters"')[2].partition("</table>")[0]
        assert "badge-paused" in table and "badge-waits" not in table
        assert table.count("paused by ann") == table.count("the target moves") == 1


def test_probe_now(admin_client: Client, ingester: Ingester) -> None:
    assert "does not pause" in probe(admin_client, ingester)
    pause(ingester)
    assert not probing.probe_is_due(ingester.pk)
    assert "is probed when the ingester runs; start it" in probe(admin_client, ingester)
    Component.objects.create(kind="ingester", subject=ingester.name, host="a", pid=1)
    what = Pausable(ComponentKind.INGESTER, ingester.name)
    operator_pauses.pause(what, user="ann", note="the target moves")
    assert "is probed when the ingester is resumed; it is paused by ann" in probe(
        admin_client, ingester
    )
    operator_pauses.resume(what, user="ann")
    LogEntry.objects.all().delete()
    assert "is probed with one file at once" in probe(admin_client, ingester)
    assert probing.probe_is_due(ingester.pk)
    assert LogEntry.objects.get().change_message == "Probe now"
    assert Probe.take(ingester.pk) is not None
    assert "a worker probes already" in probe(admin_client, ingester)


def test_probe_now_needs_a_permission(ingester: Ingester) -> None:
    pause(ingester)
    client = client_of("view_ingester")
    assert "probe_selected" not in page(client, listing("ingester"))
    probe(client, ingester)
    assert not probing.probe_is_due(ingester.pk)
    User.objects.get().user_permissions.add(Permission.objects.get(codename="rerun"))
    probe(client, ingester)
    assert probing.probe_is_due(ingester.pk)


def test_suspect_files_are_on_the_front_page(admin_client: Client, make_file: MakeFile) -> None:
    assert "Nothing needs a person" in page(admin_client, reverse("admin:index"))
    Suspicion.objects.create(file=make_file(), kind=FindingKind.MISSING)
    text = page(admin_client, reverse("admin:index"))
    assert "Nothing needs a person" not in text and "?suspect=MISSING" in text


def test_what_a_filter_cuts_off_is_not_kept_from_the_others(
    admin_client: Client, ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.admin_filters.COUNTED", 1)
    monkeypatch.setattr("buffer.admin_search.COUNTED", 1)
    monkeypatch.setattr("buffer.admin_filters.COUNTED", 1)
    old = timezone.now() - timedelta(days=9)
    known(ingester, make_file(filename="old.fits", relpath="old", added_on=old))
    for n in range(3):
        known(ingester, make_file(filename=f"new{n}.fits"))
    day = f"day={old:%Y-%m-%d}"
    for url in (
        listing("ingestion", f"?status__exact=FAILURE&{day}"),
        listing("ingestion", f"?cause=no+flat&{day}"),
        listing("ingestion", "?status__exact=FAILURE&directory=old"),
        listing("ingestion", "?cause=no+flat&q=old"),
        listing("ingestion", f"?{day}&directory=old"),
        listing("file", f"?status=FAILURE&{day}"),
        listing("file", "?status=FAILURE&q=old"),
    ):
        text = page(admin_client, url)
        assert "old.fits" in text and "new0.fits" not in text, url
    assert "only the first of them, by name" in page(admin_client, listing("file", "?q=new"))
    text = page(admin_client, listing("ingestion", "?directory=2026-11-23"))
    assert "only the first of them, by name" in text and "new0.fits" in text


def test_pages_run_nothing_but_files_of_the_site(admin_client: Client, ingester: Ingester) -> None:
    for url in (reverse("admin:index"), listing("file"), "/admin/login/?next=/admin/"):
        response = admin_client.get(url)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        text = response.content.decode()
        assert not re.search(r"<script(?![^>]*(\bsrc=|application/json))|\son\w+=|\sstyle=", text)
