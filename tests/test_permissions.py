"""Every page and every action of the admin, tried by everybody.

What there is to try is read from the admin itself, so that a new page or action cannot be missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest
from django.contrib import admin
from django.contrib.admin import helpers
from django.contrib.auth.models import User
from django.db.models import Model
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, reverse

from buffer.models import OperatorPause
from ingest.groups import ADMINISTRATOR, OPERATOR, VIEWER
from ingest.models import Breaker, Ingester, Ingestion
from ingest.statuses import Status
from tests.everybody import (
    EVERYBODY,
    NOBODY,
    WORKERS,
    Rows,
    client_of,
    rows,
    snapshot,
    user_of,
)

__all__ = ["rows"]

pytestmark = pytest.mark.django_db

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
#: The pages of a model, and those of them that change something.
KINDS: Final = {"changelist", "add", "history", "delete", "change", "password_change"}
CHANGING: Final = {"add", "delete"}
#: Models that can be edited, by administrators.
EDITED: Final = {"user", "group"}


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


def address(name: str, rows: Rows) -> str:
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


def test_everything_is_tried() -> None:
    assert len(pages()) > 50
    assert set(pages()) == set(PLAIN) | set(model_pages())
    assert {page for _, page in model_pages().values()} == KINDS


@pytest.mark.parametrize("who", EVERYBODY)
def test_every_page(who: str, rows: Rows) -> None:
    client = client_of(who)
    before = snapshot()
    answers = {name: client.get(address(name, rows)).status_code for name in pages()}
    assert answers == {name: expected(name, who) for name in pages()}
    assert snapshot() == before
    if who == NOBODY:
        index = client.get(reverse("admin:index"))
        assert index["Location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize("who", [NOBODY, VIEWER, OPERATOR])
def test_no_page_takes_a_form(who: str, rows: Rows) -> None:
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


def act(client: Client, model: type[Model], action: str, rows: Rows) -> int:
    """Do an action with the row of a model, and confirm it."""
    form = {
        "action": action,
        helpers.ACTION_CHECKBOX_NAME: [rows[model].pk],
        "confirmed": "yes",
        "post": "yes",
        "ingester": [rows[Ingester].pk],
        "note": "a note",
    }
    return client.post(listing(model), form).status_code


def listing(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def offering(action: str, who: str = ADMINISTRATOR) -> list[type[Model]]:
    """Give the models with an action."""
    user = user_of(who)
    return [model for model, one in admin.site._registry.items() if action in actions_of(one, user)]


@pytest.mark.parametrize("who", EVERYBODY)
def test_no_action_is_done_for_those_who_may_not(who: str, rows: Rows) -> None:
    client = client_of(who)
    before = snapshot()
    tried = 0
    for action in ACTIONS:
        allowed = [] if who == NOBODY else offering(action, who)
        for model in set(admin.site._registry) - set(allowed):
            act(client, model, action, rows)
            tried += 1
    assert tried
    assert snapshot() == before


@pytest.mark.parametrize("who", WORKERS)
def test_those_who_may_do(who: str, rows: Rows) -> None:
    client = client_of(who)
    standing = OperatorPause.objects.standing()
    for model in offering("rerun_selected"):
        Ingestion.objects.update(status=Status.FAILURE)
        act(client, model, "rerun_selected", rows)
        assert Ingestion.objects.get().status == Status.RERUN, model
    for model in offering("pause_selected"):
        act(client, model, "pause_selected", rows)
        assert standing.count() == 2, model
        act(client, model, "resume_selected", rows)
        assert standing.count() == 1, model
    for model in offering("probe_selected"):
        act(client, model, "probe_selected", rows)
        assert Breaker.objects.get().failed_probes == 0, model


def test_no_form_without_our_token_is_taken(rows: Rows) -> None:
    client = client_of(ADMINISTRATOR, csrf=True)
    before = snapshot()
    for name in pages():
        assert client.post(address(name, rows), {"post": "yes"}).status_code == 403, name
    for action in ACTIONS:
        for model in offering(action):
            assert act(client, model, action, rows) == 403, (model, action)
    assert snapshot() == before


# What a forged address does

#: What is no id, or none that is there, and no number or text that a database takes.
FORGED: Final = ("x", "-1", "77777", "9" * 30, "1' OR '1'='1", "\0", "\ud800", "2026-13-45", "")


@pytest.fixture
def asked(rows: Rows) -> Iterator[Client]:
    """An administrator who asks for nonsense, by which nothing must change."""
    client = client_of(ADMINISTRATOR)
    before = snapshot()
    yield client
    assert snapshot() == before


def test_forged_ids(asked: Client, rows: Rows) -> None:
    for name, (model, page) in model_pages().items():
        if page in ("changelist", "add"):
            continue
        real = address(name, rows)
        for forged in filter(None, FORGED):
            url = real.replace(f"/{rows[model].pk}/", f"/{quote(forged, errors='surrogatepass')}/")
            assert url != real
            for answer in (asked.get(url), asked.post(url, {"post": "yes"})):
                # The admin leads away from what is not there.
                assert answer.status_code in (302, 403, 404), url


def test_forged_filters(asked: Client, rows: Rows) -> None:
    for model, model_admin in admin.site._registry.items():
        # Filters of accounts are those of Django.
        own = () if model._meta.model_name in EDITED else filters(model_admin)
        for name in ("q", "o", "p", "all", "_popup", "_to_field", "id", "nonsense__lt", *own):
            for forged in FORGED:
                query = urlencode({name: forged}, errors="surrogatepass")
                status = asked.get(f"{listing(model)}?{query}").status_code
                assert status in (200, 302, 400, 404), (model, query)


def test_forged_selections(asked: Client, rows: Rows) -> None:
    for action in ACTIONS:
        for model in offering(action):
            if model._meta.model_name in EDITED:
                continue
            for forged in FORGED:
                form = {"action": action, helpers.ACTION_CHECKBOX_NAME: forged, "confirmed": "yes"}
                body = urlencode(form, errors="surrogatepass")
                answer = asked.post(listing(model), body, "application/x-www-form-urlencoded")
                assert answer.status_code in (200, 302, 404), (action, model, forged)


def filters(model_admin: Any) -> set[str]:
    """Give the parameters that the filters of a list know."""
    known = set()
    for one in model_admin.list_filter:
        if isinstance(one, str):
            known |= {f"{one}__exact", f"{one}__id__exact", one}
        else:
            known.add(one.parameter_name)
    return known
