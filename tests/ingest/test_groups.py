"""The groups that migrate makes, and what they may do."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS

from ingest import groups
from ingest.groups import ADMINISTRATOR, OPERATOR, VIEWER

pytestmark = pytest.mark.django_db


def permissions_of(name: str) -> set[str]:
    rows = Group.objects.get(name=name).permissions.select_related("content_type")
    return {f"{row.content_type.app_label}.{row.codename}" for row in rows}


def migrated(apps: Any = apps) -> None:
    groups.after_migrate(using=DEFAULT_DB_ALIAS, apps=apps, verbosity=0)


def test_each_may_do_what_the_one_before_may() -> None:
    viewer, operator, administrator = map(permissions_of, (VIEWER, OPERATOR, ADMINISTRATOR))
    assert "ingest.view_ingestion" in viewer
    assert all(name.partition(".")[2].startswith("view_") for name in viewer)
    assert operator - viewer == groups.ACTIONS
    assert viewer < operator < administrator
    assert "auth.add_user" in administrator - operator


def test_no_group_may_edit_history() -> None:
    everything = permissions_of(ADMINISTRATOR)
    ours = {name for name in everything if name.startswith(("buffer.", "ingest."))}
    assert {name for name in ours if ".view_" not in name} == groups.ACTIONS


def test_every_permission_that_is_an_action_belongs_to_operators() -> None:
    models = [m for label in ("buffer", "ingest") for m in apps.get_app_config(label).get_models()]
    declared = {
        f"{model._meta.app_label}.{codename}"
        for model in models
        for codename, _ in model._meta.permissions
    }
    assert declared == groups.ACTIONS


def test_again_changes_nothing() -> None:
    before = list(Group.objects.order_by("pk").values_list("pk", "name", "permissions"))
    migrated()
    call_command("migrate", verbosity=0)
    assert list(Group.objects.order_by("pk").values_list("pk", "name", "permissions")) == before


def test_what_was_taken_away_stays_away() -> None:
    taken = Permission.objects.get(codename="rerun")
    Group.objects.get(name=OPERATOR).permissions.remove(taken)
    migrated()
    assert "ingest.rerun" not in permissions_of(OPERATOR)
    assert "ingest.rerun" in permissions_of(ADMINISTRATOR)


def test_a_new_permission_is_given_out() -> None:
    Permission.objects.get(codename="rerun").delete()
    assert "ingest.rerun" not in permissions_of(OPERATOR)
    migrated()
    assert "ingest.rerun" in permissions_of(OPERATOR)
    assert "ingest.rerun" not in permissions_of(VIEWER)


@pytest.mark.django_db(transaction=True)
def test_after_a_flush() -> None:
    call_command("flush", verbosity=0, interactive=False)
    assert permissions_of(OPERATOR) >= groups.ACTIONS


def test_without_the_tables_of_users_nothing_is_done() -> None:
    class Nothing:
        def get_model(self, *_: str) -> None:
            raise LookupError

    migrated(Nothing())
