"""The lists of the admin, exported."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from buffer.models import File, Refusal, RefusalReason
from ingest.models import Ingester, Ingestion
from tests.ingest.desk import HOSTILE, client_of, tried

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]
FORMULA = "=cmd|' calc'!A0"


def table(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200 and answer["Content-Type"].startswith("text/csv")
    text = b"".join(answer.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def row(ingester: Ingester, make_file: MakeFile) -> Ingestion:
    """A file with a hostile name that failed with a hostile message."""
    file = make_file(relpath="", filename=f"{FORMULA}{HOSTILE}".replace("/", "|"))
    Refusal.objects.create(storage=file.storage, source="/b", path=f"{FORMULA}.fits", key="k",
                           detail=f"@{HOSTILE}" * 900, reason=RefusalReason.CONFLICT)  # fmt: skip
    return tried(ingester, file, f"{FORMULA} {HOSTILE}")


@pytest.mark.parametrize("model", ["buffer_file", "buffer_refusal", "ingest_ingestion",
                                   "ingest_fileevent"])  # fmt: skip
def test_lists(row: Ingestion, model: str) -> None:
    client = client_of("view_file", "view_refusal", "view_ingestion", "view_fileevent")
    url = reverse(f"admin:{model}_changelist")
    form = {"action": "export_csv", "select_across": "1", "_selected_action": ["0"]}
    answer = client.post(url, form)
    # Nothing is selected by such an id, but across all pages everything is.
    rows = table(answer)
    assert rows and rows[-1]["path"].startswith(f"'{FORMULA[:5]}")
    for one in rows:
        for value in one.values():
            assert value[:1] not in {"=", "+", "-", "@", "\t"}
            assert not {"\u202e", "\x1b"} & set(value)
    assert len(rows) == (2 if model == "ingest_fileevent" else 1)


def test_causes(row: Ingestion, ingester: Ingester) -> None:
    url = reverse("ingest:causes", args=[ingester.pk])
    (one,) = table(client_of("view_ingestion").get(f"{url}?format=csv"))
    assert one["cause"].startswith("'=cmd") and one["files"] == "1"
    assert Client().get(f"{url}?format=csv").status_code == 302
    assert client_of("view_file").get(f"{url}?format=csv").status_code == 403


def test_who_may_not(row: Ingestion) -> None:
    form = {"action": "export_csv", "_selected_action": [row.pk]}
    url = reverse("admin:ingest_ingestion_changelist")
    assert client_of("view_file").post(url, form).status_code == 403
    assert Client().post(url, form).status_code == 302
    assert client_of("view_ingestion", csrf=True).post(url, form).status_code == 403
