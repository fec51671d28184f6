"""Admin pages of storage areas, files, refusals and components."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from buffer import admin_base, shown
from buffer.admin_base import AtLeast, CappedPaginator, first_id_since
from buffer.admin_search import ids_matching
from buffer.models import Component, File, FindingKind, Refusal, RefusalReason, Storage, Suspicion

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]

HOSTILE = "<script>alert(1)</script>\u202egnp.exe\x1b[2J"
MODELS = ["storage", "file", "refusal", "component", "suspicion"]


@pytest.fixture(autouse=True)
def files_of_pages_are_found_late(settings: Any) -> None:
    """Each client would list all static files first."""
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture
def refusal(storage: Storage) -> Refusal:
    return Refusal.objects.create(
        storage=storage,
        source="/data/buffer",
        path="2026-11-23/<b>bad</b>.fits",
        key="k",
        reason=RefusalReason.CONFLICT,
        detail="another file <i>is</i> stored\x1b[2J",
    )


@pytest.fixture
def component(db: None) -> Component:
    return Component.objects.create(
        kind="finder",
        subject="/data/buffer",
        host="alpha",
        pid=42,
        settings={"finder": {"url": "postgres://anna:hunter2@db/x", "token": "hunter2"}},
        counters={"stored": 7},
        message="no room at postgres://anna:hunter2@db",
    )


def viewer(*models: str) -> Client:
    """A client of a user who may look, and nothing else."""
    user = User.objects.create_user("viewer", password="x", is_staff=True)
    for name in models:
        user.user_permissions.add(Permission.objects.get(codename=f"view_{name}"))
    client = Client()
    client.force_login(user)
    return client


def page(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def listing(model: str, query: str = "") -> str:
    return reverse(f"admin:buffer_{model}_changelist") + query


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("who", ["superuser", "viewer"])
def test_pages_can_be_read_and_nothing_else(
    admin_client: Client,
    make_file: MakeFile,
    refusal: Refusal,
    component: Component,
    model: str,
    who: str,
) -> None:
    Suspicion.objects.create(file=make_file(), kind=FindingKind.MISSING)
    client = admin_client if who == "superuser" else viewer(*MODELS)
    rows = {
        "storage": Storage,
        "file": File,
        "refusal": Refusal,
        "component": Component,
        "suspicion": Suspicion,
    }
    row = rows[model].objects.get()  # type: ignore[attr-defined]
    one = reverse(f"admin:buffer_{model}_change", args=[row.pk])
    assert "Endpoint buffer manager" in page(client, listing(model))
    text = page(client, one)
    assert 'name="_save"' not in text and "<textarea" not in text
    assert page(client, reverse(f"admin:buffer_{model}_history", args=[row.pk]))
    assert client.get(reverse(f"admin:buffer_{model}_add")).status_code == 403
    assert client.post(one, {"name": "x"}).status_code == 403
    delete = reverse(f"admin:buffer_{model}_delete", args=[row.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403
    client.post(
        listing(model), {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"}
    )
    assert type(row)._default_manager.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", MODELS)
def test_nobody_sees_nothing(client: Client, model: str) -> None:
    response = client.get(listing(model))
    assert response.status_code == 302 and "login" in response["Location"]
    assert viewer().get(listing(model)).status_code == 403


@pytest.mark.filterwarnings("ignore:No directory at")
def test_it_is_styled_with_debug_off(admin_client: Client, settings: Any) -> None:
    del settings.WHITENOISE_AUTOREFRESH
    assert settings.DEBUG is False
    text = page(admin_client, reverse("admin:index"))
    for path in ("/static/admin/css/base.css", "/static/buffer/admin.css"):
        assert path in text
        response = admin_client.get(path)
        assert response.status_code == 200
        assert response["Content-Type"].startswith("text/css")
        response.close()


def test_hostile_names_are_shown_harmless(admin_client: Client, make_file: MakeFile) -> None:
    file = make_file(relpath="<img src=x>", filename=HOSTILE)
    change = reverse("admin:buffer_file_change", args=[file.pk])
    history = reverse("admin:buffer_file_history", args=[file.pk])
    for url in (listing("file"), change, history):
        text = page(admin_client, url)
        assert "<script>alert" not in text and "<img src=x" not in text
        assert "\u202e" not in text and "\x1b" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202egnp.exe\\x1b[2J" in text


def test_messages_are_shown_harmless(
    admin_client: Client, refusal: Refusal, component: Component
) -> None:
    change = reverse("admin:buffer_refusal_change", args=[refusal.pk])
    for url in (listing("refusal"), change):
        text = page(admin_client, url)
        assert "&lt;i&gt;is&lt;/i&gt; stored\\x1b[2J" in text
        assert "<b>bad" not in text


def test_times_have_their_seconds_and_their_zone(admin_client: Client, make_file: MakeFile) -> None:
    file = make_file(added_on=datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC))
    for url in (listing("file"), reverse("admin:buffer_file_change", args=[file.pk])):
        assert "2026-11-23 01:02:03 UTC" in page(admin_client, url)


def test_passwords_are_not_shown(admin_client: Client, component: Component) -> None:
    for url in (
        listing("component"),
        reverse("admin:buffer_component_change", args=[component.pk]),
        reverse("admin:index"),
    ):
        text = page(admin_client, url)
        assert "hunter2" not in text
        assert "anna:***@db" in text


def test_a_silent_component(admin_client: Client, component: Component) -> None:
    assert "badge-running" in page(admin_client, listing("component"))
    Component.objects.update(seen_on=timezone.now() - timedelta(minutes=5))
    assert "badge-silent" in page(admin_client, listing("component"))
    assert "badge-silent" in page(admin_client, listing("component", "?state=running"))
    Component.objects.update(stopped_on=timezone.now())
    assert "badge-stopped" in page(admin_client, listing("component", "?state=stopped"))
    assert "badge-stopped" not in page(admin_client, listing("component", "?state=running"))


def test_filters_of_files(admin_client: Client, make_file: MakeFile) -> None:
    make_file(filename="whole.fits")
    make_file(filename="coming.fits", stored_on=None)
    make_file(filename="leaving.fits", source="/data/buffer")
    File.objects.filter(filename="whole.fits").update(added_on=timezone.now() - timedelta(days=2))
    expected = {
        "": {"whole", "coming", "leaving"},
        "?stage=stored": {"whole", "leaving"},
        "?stage=intent": {"coming"},
        "?stage=unreleased": {"leaving"},
        "?since=day": {"coming", "leaving"},
        "?since=week": {"whole", "coming", "leaving"},
        "?since=nonsense": {"whole", "coming", "leaving"},
    }
    for query, names in expected.items():
        text = page(admin_client, listing("file", query))
        found = {name for name in ("whole", "coming", "leaving") if f"{name}.fits" in text}
        assert found == names, query


def test_filters_of_refusals(admin_client: Client, refusal: Refusal) -> None:
    assert "bad&lt;" in page(admin_client, listing("refusal", "?state=open"))
    assert "bad&lt;" in page(admin_client, listing("refusal", "?q=2026-11-23/"))
    Refusal.objects.update(resolved_on=timezone.now(), resolved_how="gone")
    assert "bad&lt;" not in page(admin_client, listing("refusal", "?state=open"))
    assert "resolved: gone" in page(admin_client, listing("refusal", "?state=resolved"))


def found(term: str) -> QuerySet[File]:
    return File.objects.filter(pk__in=ids_matching(term))


def test_search(make_file: MakeFile, storage: Storage) -> None:
    file = make_file(relpath="2026-11-23/sub", filename="HSC_100%_a.fits", checksum="ab" * 32)
    other = make_file(relpath="2026-11-24", filename="hsc_b.fits")
    odd = make_file(relpath="", filename="a\u202eb\\c.fits")
    assert set(found(str(other.pk))) == {other}
    assert set(found("HSC_")) == {file}
    assert set(found("HSC_100%")) == {file}
    assert set(found("HSC_1%")) == set()
    assert set(found("SC_100")) == set()
    assert set(found("AB" * 32)) == {file}
    assert set(found("2026-11-24")) == {other}
    assert set(found("2026-11-24/")) == {other}
    assert set(found("2026-11-23/sub/HSC_100")) == {file}
    assert set(found("2026-11-23")) == set()
    assert set(found(file.path_below(storage.root))) == {file}
    assert set(found("a\\u202eb\\x5cc.fits")) == {odd}
    assert set(found("a\u202eb")) == {odd}
    assert set(found("9" * 30)) == set()
    assert set(found("\udc80")) == set()
    assert set(found("\\U0fffffff")) == set()


@pytest.mark.parametrize("term", ["%00", "%F0%9F%92%A9", "'%22;--", "1%20OR%201", "9" * 40, "/"])
def test_odd_searches_find_nothing(
    admin_client: Client, make_file: MakeFile, refusal: Refusal, component: Component, term: str
) -> None:
    make_file()
    for model in MODELS:
        page(admin_client, listing(model, f"?q={term}"))


def test_search_page(admin_client: Client, make_file: MakeFile) -> None:
    make_file(filename="wanted.fits"), make_file(filename="other.fits")
    text = page(admin_client, listing("file", "?q=wanted"))
    assert "wanted.fits" in text and "other.fits" not in text


def test_lists_are_not_counted_to_their_end(
    admin_client: Client, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_base, "COUNTED", 5)
    for _ in range(8):
        make_file()
    paginator = CappedPaginator(File.objects.order_by("-id"), 2)
    assert (paginator.count, paginator.num_pages) == (5, 3)
    assert isinstance(paginator.count, AtLeast)
    assert "more than 5 files" in page(admin_client, listing("file"))
    File.objects.filter(pk__in=File.objects.order_by("pk").values("pk")[:4]).delete()
    assert str(CappedPaginator(File.objects.order_by("-id"), 2).count) == "4"


def test_queries_of_a_list_do_not_grow(
    admin_client: Client,
    make_file: MakeFile,
    django_assert_max_num_queries: Callable[[int], object],
) -> None:
    for _ in range(30):
        make_file()
    # Session, user, storages of the filter, ingesters of the filter, count, rows, marks, statuses.
    with django_assert_max_num_queries(8):  # type: ignore[attr-defined]
        page(admin_client, listing("file"))


def test_the_first_of_a_time_is_found_by_halving(make_file: MakeFile) -> None:
    now = timezone.now()
    assert first_id_since(File, "added_on", now) == 1
    files = [make_file(added_on=now - timedelta(hours=20 - n)) for n in range(20)]
    File.objects.filter(pk=files[11].pk).delete()
    for n in (0, 3, 10, 12, 19):
        at = first_id_since(File, "added_on", files[n].added_on)
        assert File.objects.filter(pk__gte=at).order_by("pk").first() == files[n]
    assert first_id_since(File, "added_on", now + timedelta(hours=1)) == files[-1].pk + 1


def test_settings_without_their_secrets() -> None:
    given = {
        "root": "/repo",
        "password": "hunter2",
        "api_key": "hunter2",
        "Token": ["hunter2"],
        "secret": "",
        "list": [{"passwd": "hunter2"}, "postgresql://a:hunter2@h/d", 7],
        "n": None,
    }
    cleaned = shown.settings(given)
    assert "hunter2" not in repr(cleaned)
    assert (cleaned["root"], cleaned["secret"], cleaned["n"]) == ("/repo", "", None)
    assert cleaned["list"][2] == 7


def test_suspect_files(admin_client: Client, make_file: MakeFile) -> None:
    make_file(filename="good.fits")
    bad, mended = make_file(filename="bad.fits"), make_file(filename="mended.fits")
    mark = {"kind": FindingKind.CHANGED, "detail": "its <b>content</b>\x1b[2J", "found_by": "h:1"}
    Suspicion.objects.create(file=bad, **mark)
    Suspicion.objects.create(
        file=mended, cleared_on=timezone.now(), cleared_how="as recorded", **mark
    )
    for query in ("?suspect=any", "?suspect=CHANGED"):
        text = page(admin_client, listing("file", query))
        assert "bad.fits" in text and "mended.fits" not in text and "good.fits" not in text
        assert "badge-CHANGED" in text
    assert "bad.fits" not in page(admin_client, listing("file", "?suspect=MISSING"))
    text = page(admin_client, reverse("admin:buffer_file_change", args=[bad.pk]))
    assert "its &lt;b&gt;content&lt;/b&gt;\\x1b[2J" in text and "\x1b" not in text
    assert "found " in text and "by h:1" in text
    assert f"to do: compare {bad.storage.root}/2026-11-23/bad.fits with a backup" in text
    text = page(admin_client, reverse("admin:buffer_file_change", args=[mended.pk]))
    assert "as recorded" in text and "to do" not in text
    text = page(admin_client, listing("suspicion", "?state=standing"))
    assert "bad.fits" in text and "mended.fits" not in text and "<b>content" not in text
    assert "mended.fits" in page(admin_client, listing("suspicion", "?state=cleared"))
