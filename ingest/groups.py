"""The groups Viewer, Operator and Administrator: who may do what in the admin.

They are made by ``migrate``. A permission is given to its groups once, when it or the group comes
into being: what an administrator of the site changes afterwards stays as it was changed.
"""

from __future__ import annotations

from typing import Any, Final

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import router

VIEWER: Final = "Viewer"
OPERATOR: Final = "Operator"
ADMINISTRATOR: Final = "Administrator"

#: What an operator may do beyond looking.
ACTIONS: Final = frozenset(
    {"ingest.rerun", "buffer.pause", "buffer.resolve_conflict", "buffer.verify"}
)
_OURS: Final = ("buffer", "ingest")
_OTHERS: Final = ("auth", "admin")
_ACCOUNTS: Final = frozenset(
    f"auth.{verb}_{model}"
    for verb in ("view", "add", "change", "delete")
    for model in ("user", "group")
)


def groups_of(permission: str) -> tuple[str, ...]:
    """Say which groups have a permission.

    Parameters
    ----------
    permission : `str`
        As ``application.codename``.
    """
    application, _, codename = permission.partition(".")
    if application in _OURS and codename.startswith("view_"):
        return VIEWER, OPERATOR, ADMINISTRATOR
    if permission in ACTIONS:
        return OPERATOR, ADMINISTRATOR
    if permission in _ACCOUNTS or permission == "admin.view_logentry":
        return (ADMINISTRATOR,)
    return ()


def after_migrate(*, using: str, verbosity: int, apps: Any = installed, **_: Any) -> None:
    """Make the groups that are missing, and give out the permissions that are new."""
    try:
        permissions = apps.get_model("auth", "Permission").objects.using(using)
        groups = apps.get_model("auth", "Group").objects.using(using)
    except LookupError:
        # Only some applications were migrated; these tables come with the rest.
        return
    if not router.allow_migrate(using, "auth"):
        return
    before = set(permissions.values_list("pk", flat=True))
    for label in (*_OURS, *_OTHERS):
        create_permissions(
            installed.get_app_config(label), verbosity=verbosity, using=using, apps=apps
        )
    known = list(permissions.select_related("content_type"))
    for name in (VIEWER, OPERATOR, ADMINISTRATOR):
        group, is_new = groups.get_or_create(name=name)
        group.permissions.add(
            *(
                row
                for row in known
                if (is_new or row.pk not in before)
                and name in groups_of(f"{row.content_type.app_label}.{row.codename}")
            )
        )
