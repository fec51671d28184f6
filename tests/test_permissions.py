"""Every page and every action of the admin, tried by everybody.

What there is to try is read from the admin itself, so that a new page or action cannot be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin import helpers
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.db.models.functions import Now
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, reverse

from buffer import operator_pauses
from buffer.models import Alert, Component, ComponentKind, File, Refusal, Suspicion
from buffer.operator_pauses import Pausable
from ingest import transitions
from ingest.groups import ADMINISTRATOR, OPERATOR, VIEWER
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status

pytestmark = pytest.mark.django_db

NOBODY: Final = "nobody"
EVERYBODY: Final = (NOBODY, VIEWER, OPERATOR, ADMINISTRATOR)
#: Who may use each action. One that is not here fails the tests.
ACTIONS: Final = {
    "rerun_selected": {OPERATOR, ADMINISTRATOR},
    "probe_selected": {OPERATOR, ADMINISTRATOR},
    "pause_selected": {OPERATOR, ADMINISTRATOR},
    "resume_selected": {OPERATOR, ADMINISTRATOR},
    "export_csv": {VIEWER, OPERATOR, ADMINISTRATOR},
    "delete_selected": {ADMINISTRATOR},  # of users and groups; nothing else can be deleted
}
#: Pages that belong to no model, and their status for who is logged in.
PLAIN: Final = {
    "index": 200,
    "login": 302,
    "logout": 405,
    "password_change": 200,
    "password_change_done": 200,
    "autocomplete": 403,
    "jsi18n": 200,
    "view_on_site": 404,
    "app_list": 200,
}
#: The pages of a model that change something.
CHANGING: Final = {"add", "delete"}
#: Models that can be edited, by administrators.
EDITED: Final = {"user", "group"}


@pytest.fixture(autouse=True)
def files_of_pages_are_found_late(settings: Any) -> None:
    """Each client would list all static files first."""
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture
def rows(ingester: Ingester, make_file: Callable[..., File]) -> dict[type[Model], Model]:
    """One row of every model that the admin shows."""
    file = make_file()
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    Component.objects.create(kind="finder", subject="/data/buffer", host="here", pid=7)
    Refusal.objects.create(
        storage=ingester.storage, source="/data/buffer", path="a.fits", key="k", reason="CONFLICT"
    )
    Suspicion.objects.create(file=file, kind="MISSING")
    operator_pauses.pause(Pausable(ComponentKind.FINDER, "/other", "here"), user="ann")
    Alert.objects.create(condition="SILENCE", kind="finder", subject="/other", raised_on=Now())
    User.objects.create_user("somebody")
    found = {model: model._default_manager.first() for model in admin.site._registry}
    assert None not in found.values(), "the test needs a row of each model"
    return found


def client_of(who: str) -> Client:
    client = Client(enforce_csrf_checks=False)
    if who != NOBODY:
        client.force_login(user_of(who))
    return client


def user_of(who: str) -> User:
    user, made = User.objects.get_or_create(username=who.lower(), is_staff=True)
    if made:
        user.groups.add(Group.objects.get(name=who))
    return user


def patterns(urls: list[Any]) -> Iterator[URLPattern]:
    for one in urls:
        if isinstance(one, URLResolver):
            yield from patterns(one.url_patterns)
        else:
            yield one


def pages() -> list[str]:
    """Names of all pages of the admin; the catch-all and the old form of links have none."""
    return sorted({one.name for one in patterns(admin.site.get_urls()) if one.name})


def model_pages() -> dict[str, tuple[type[Model], str]]:
    found = {}
    for model, pages_of_it in admin.site._registry.items():
        meta = model._meta
        for one in patterns(pages_of_it.get_urls()):
            if one.name:
                prefix = f"{meta.app_label}_{meta.model_name}_"
                found[one.name] = (model, one.name.removeprefix(prefix))
    return found


def address(name: str, rows: dict[type[Model], Model]) -> str:
    if name == "app_list":
        return reverse("admin:app_list", args=["buffer"])
    if name == "view_on_site":
        return reverse("admin:view_on_site", args=[1, 1])
    model, page = model_pages().get(name, (None, ""))
    if name == "auth_user_password_change":
        page = "change"
    args = [] if model is None or page in ("changelist", "add") else [rows[model].pk]
    return reverse(f"admin:{name}", args=args)


def expected(name: str, who: str) -> int:
    """Say what a page answers."""
    if who == NOBODY:
        return 200 if name == "login" else 302
    if name in PLAIN:
        return PLAIN[name]
    model, page = model_pages()[name]
    edited = model._meta.model_name in EDITED
    if edited and who != ADMINISTRATOR:
        return 403
    return 403 if page in CHANGING and not edited else 200


def snapshot() -> dict[str, list[Any]]:
    """Read all that could be changed."""
    models = [
        model
        for label in ("buffer", "ingest", "auth", "admin", "django_q")
        for model in apps.get_app_config(label).get_models(include_auto_created=True)
    ]
    return {
        model._meta.label: [
            {key: value for key, value in row.items() if key != "last_login"}
            for row in model._default_manager.order_by("pk").values()
        ]
        for model in models
    }


def test_everything_is_tried() -> None:
    assert len(pages()) > 50
    assert set(pages()) == set(PLAIN) | set(model_pages())


@pytest.mark.parametrize("who", EVERYBODY)
def test_every_page(who: str, rows: dict[type[Model], Model]) -> None:
    client = client_of(who)
    answers = {name: client.get(address(name, rows)).status_code for name in pages()}
    assert answers == {name: expected(name, who) for name in pages()}
    if who == NOBODY:
        index = client.get(reverse("admin:index"))
        assert index["Location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize("who", [NOBODY, VIEWER, OPERATOR])
def test_no_page_takes_a_form(who: str, rows: dict[type[Model], Model]) -> None:
    client = client_of(who)
    form = {"post": "yes", "name": "x", "username": "x", "status": "SUCCESS", "_save": "Save"}
    before = snapshot()
    for name in model_pages():
        status = client.post(address(name, rows), form).status_code
        page = model_pages()[name][1]
        if who == NOBODY:
            assert status == 302, name
        elif page not in ("changelist", "history"):
            assert status == 403, name
    assert snapshot() == before


def actions_of(model_admin: Any, user: User) -> set[str]:
    request: HttpRequest = RequestFactory().get("/")
    request.user = user
    return set(model_admin.get_actions(request))


@pytest.mark.parametrize("who", [VIEWER, OPERATOR, ADMINISTRATOR])
def test_every_action_is_offered_to_those_who_may(who: str) -> None:
    user = user_of(who)
    offered = {action for one in admin.site._registry.values() for action in actions_of(one, user)}
    assert offered == {action for action, may in ACTIONS.items() if who in may}


def test_every_action_is_known() -> None:
    user = User.objects.create_superuser("root")
    there = {name for one in admin.site._registry.values() for name in actions_of(one, user)}
    assert there == set(ACTIONS)


@pytest.mark.parametrize("who", EVERYBODY)
def test_no_action_is_done_for_those_who_may_not(who: str, rows: dict[type[Model], Model]) -> None:
    client = client_of(who)
    before = snapshot()
    tried = 0
    for model, model_admin in admin.site._registry.items():
        allowed = set() if who == NOBODY else actions_of(model_admin, user_of(who))
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for action in set(ACTIONS) - allowed:
            form = {
                "action": action,
                helpers.ACTION_CHECKBOX_NAME: [rows[model].pk],
                "confirmed": "yes",
                "post": "yes",
                "ingester": [row.pk for row in Ingester.objects.all()],
                "note": "a note",
            }
            client.post(url, form)
            tried += 1
    assert tried
    assert snapshot() == before


@pytest.mark.parametrize("who", [OPERATOR, ADMINISTRATOR])
def test_those_who_may_do(who: str, rows: dict[type[Model], Model]) -> None:
    form = {
        "action": "rerun_selected",
        helpers.ACTION_CHECKBOX_NAME: [rows[Ingestion].pk],
        "confirmed": "yes",
        "ingester": [rows[Ingester].pk],
    }
    client_of(who).post(reverse("admin:ingest_ingestion_changelist"), form)
    assert Ingestion.objects.get().status == Status.RERUN


def test_a_form_without_our_token_is_refused(rows: dict[type[Model], Model]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_of(ADMINISTRATOR))
    before = snapshot()
    for name in model_pages():
        assert client.post(address(name, rows), {"post": "yes"}).status_code == 403, name
    assert snapshot() == before


#: The pages by which an operator acts, and of which rows.
DESK: Final = {
    "buffer:conflicts": [],
    "buffer:conflict": [Refusal],
    "ingest:all_causes": [],
    "ingest:causes": [Ingester],
    "ingest:jobs": [],
}


@pytest.mark.parametrize("who", EVERYBODY)
def test_the_desks(who: str, rows: dict[type[Model], Model]) -> None:
    client = client_of(who)
    before = snapshot()
    for name, models in DESK.items():
        url = reverse(name, args=[rows[model].pk for model in models])
        answer = client.get(url, follow=who != NOBODY)
        assert answer.status_code == (302 if who == NOBODY else 200), name
        if who in (NOBODY, VIEWER):
            answer = client.post(url, {"action": "LATER", "checksum": "", "note": "x"})
            assert answer.status_code in ((302,) if who == NOBODY else (403, 405)), name
    for url in (
        reverse("ingest:verify", args=[rows[File].pk]),
        f"{reverse('ingest:rerun')}?ingester={rows[Ingester].pk}&file={rows[File].pk}",
    ):
        if who in (NOBODY, VIEWER):
            status = client.post(url, {"note": "x", "upto": "0"}).status_code
            assert status == (302 if who == NOBODY else 403), url
    assert snapshot() == before
