"""Who uses the admin, and one row of everything for them to try it on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.db.models.functions import Now
from django.test import Client

from buffer import operator_pauses
from buffer.models import Alert, Component, ComponentKind, File, Refusal, Suspicion
from buffer.operator_pauses import Pausable
from ingest import rerun_jobs
from ingest.groups import ADMINISTRATOR, OPERATOR, VIEWER
from ingest.models import Breaker, Ingester, RerunJob
from tests.ingest.desk import tried

NOBODY: Final = "nobody"
EVERYBODY: Final = (NOBODY, VIEWER, OPERATOR, ADMINISTRATOR)
#: Those who may act, and those who may not.
WORKERS: Final = (OPERATOR, ADMINISTRATOR)
ONLOOKERS: Final = (NOBODY, VIEWER)

#: The cause of the file that failed, and the checksum of the arrival that was refused.
CAUSE: Final = "no flat of <n>"
CHECKSUM: Final = "c" * 64

Rows = dict[type[Model], Model]


@pytest.fixture
def rows(ingester: Ingester, make_file: Callable[..., File], settings: Any) -> Rows:
    """One row of every model that the admin shows."""
    # Each client would list all static files first.
    settings.WHITENOISE_AUTOREFRESH = True
    file = make_file()
    tried(ingester, file)
    Component.objects.create(kind="finder", subject="/data/buffer", host="here", pid=7)
    Refusal.objects.create(
        storage=ingester.storage, source="/data/buffer", path="a.fits", key="k", reason="CONFLICT",
        checksum=CHECKSUM, file=file,
    )  # fmt: skip
    Suspicion.objects.create(file=file, kind="MISSING")
    operator_pauses.pause(Pausable(ComponentKind.FINDER, "/other", "here"), user="ann")
    Alert.objects.create(condition="SILENCE", kind="finder", subject="/other", raised_on=Now())
    # Its target does not answer.
    Breaker.objects.create(ingester=ingester, opened_on=Now(), probe_on=Now(), failed_probes=3)
    User.objects.create_user("somebody")
    found = {model: model._default_manager.first() for model in admin.site._registry}
    # It is not of the admin's own pages.
    found[RerunJob] = rerun_jobs.ask(ingester, [file.pk], described="", user="ann", note="")
    assert None not in found.values(), "the test needs a row of each model"
    return found


def client_of(who: str, *, csrf: bool = False) -> Client:
    """Log somebody in; nobody is not logged in."""
    client = Client(enforce_csrf_checks=csrf)
    if who != NOBODY:
        client.force_login(user_of(who))
    return client


def user_of(who: str) -> User:
    """Give the member of a group."""
    user, made = User.objects.get_or_create(username=who.lower(), is_staff=True)
    if made:
        user.groups.add(Group.objects.get(name=who))
    return user


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
