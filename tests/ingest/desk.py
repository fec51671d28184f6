"""What tests of the operator's pages share: files that failed, users with some permissions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from buffer.models import File
from ingest import transitions
from ingest.causes import cause_of
from ingest.models import Ingester, Ingestion
from ingest.statuses import Status
from ingest.transitions import Step

HOSTILE: Final = "<script>alert(1)</script>\u202egnp\x1b[2J'\"&"
#: How it is shown: escaped for a browser, and made printable.
SHOWN: Final = "&lt;script&gt;alert(1)&lt;/script&gt;\\u202egnp\\x1b[2J&#x27;&quot;&amp;"


def tried(
    ingester: Ingester,
    file: File,
    message: str = "no flat of 7",
    status: Status = Status.FAILURE,
    hours_ago: float = 0,
) -> Ingestion:
    """Let a file fail, or whatever, at an ingester."""
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    row = Ingestion.objects.get(ingester=ingester, file=file)
    if status != Status.UNTRIED:
        step = Step(row.pk, file.pk, Status(row.status), None, status, 1,
                    cause=cause_of(message), message=message)  # fmt: skip
        assert transitions.apply(ingester.pk, [step])
    if hours_ago:
        moment = timezone.now() - timedelta(hours=hours_ago)
        Ingestion.objects.filter(pk=row.pk).update(changed_on=moment)
    row.refresh_from_db()
    return row


def client_of(*permissions: str, csrf: bool = False) -> Client:
    """Log a member of the staff in who has some permissions, by their code names."""
    user = User.objects.create_user(f"clerk{User.objects.count()}", is_staff=True)
    for name in permissions:
        user.user_permissions.add(Permission.objects.get(codename=name))
    client = Client(enforce_csrf_checks=csrf)
    client.force_login(user)
    return client


def text_of(response: Any, status: int = 200) -> str:
    """Give the page of an answer."""
    assert response.status_code == status, response.content[:500]
    return response.content.decode()
