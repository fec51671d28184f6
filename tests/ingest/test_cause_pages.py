"""Pages of failures by cause: what they show, who may act, and that nothing is executed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from buffer.models import File
from ingest.cause_pages import cause_url
from ingest.models import IgnoredCause, Ingester, Ingestion
from tests.ingest.desk import HOSTILE, SHOWN, client_of, text_of, tried

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]
CAUSE = "no flat of <n>"


def listing(ingester: Ingester, query: str = "") -> str:
    return reverse("ingest:causes", args=[ingester.pk]) + query


def test_the_list(ingester: Ingester, make_file: MakeFile) -> None:
    row = tried(ingester, make_file())
    client = client_of("view_ingestion")
    page = text_of(client.get(reverse("ingest:all_causes"), follow=True))
    assert "no flat of &lt;n&gt;" in page and str(row.file) in page
    assert "<svg" in page and "by hour, the latest last: 0, 0" in page
    assert 'style="' not in page.partition('id="content"')[2]
    Ingester.objects.create(name="second", storage=ingester.storage)
    page = text_of(client.get(reverse("ingest:all_causes")))
    assert "second" in page and ingester.name in page


def test_the_way_there(ingester: Ingester) -> None:
    """Every page of the admin leads to the pages by which one acts, for those who may see them."""
    front = reverse("admin:index")
    pages = [reverse(name) for name in ("ingest:all_causes", "buffer:conflicts", "ingest:jobs")]
    text = text_of(client_of("view_ingestion", "view_refusal", "view_rerunjob").get(front))
    assert all(f'href="{page}"' in text for page in pages)
    text = text_of(client_of("view_refusal").get(front))
    assert [f'href="{page}"' in text for page in pages] == [False, True, False]
    assert 'class="desks"' not in text_of(Client().get(reverse("admin:login")))


def test_one_cause(ingester: Ingester, make_file: MakeFile) -> None:
    row = tried(ingester, make_file(), "no flat of 1234\nand details")
    page = text_of(client_of("view_ingestion").get(cause_url(ingester.pk, CAUSE)))
    assert "no flat of 1234\nand details" in page and str(row.file) in page
    assert "<strong>1</strong> file " in page
    assert "Ignore with this note" not in page


def test_its_chart(ingester: Ingester, make_file: MakeFile) -> None:
    for hours_ago in (0, 0, 0, 2, 30):
        tried(ingester, make_file(), hours_ago=hours_ago)
    tried(ingester, make_file(), "something else")
    page = text_of(client_of("view_ingestion").get(cause_url(ingester.pk, CAUSE)))
    chart = page.partition('<figure class="chart" id="occurrences">')[2].partition("</figure>")[0]
    assert 'role="img" aria-labelledby="occurrences-title occurrences-desc"' in chart
    assert "in the last 24 hours: 4 of 5." in chart
    hour = timezone.now().replace(minute=0)
    for ago, files in ((0, 3), (1, 0), (2, 1)):
        label = f"{hour - timedelta(hours=ago):%H}:00"
        assert f'<th scope="row">{label}</th><td>{files}</td>' in chart
        assert (f"{label}: {files} files</title></rect>" in chart) == bool(files)


def test_ignore_and_take_back(ingester: Ingester, make_file: MakeFile) -> None:
    tried(ingester, make_file())
    client = client_of("view_ingestion", "rerun")
    url = cause_url(ingester.pk, CAUSE)
    page = text_of(client.post(url, {"action": "ignore", "note": " "}, follow=True))
    assert "a note is needed" in page and not IgnoredCause.objects.exists()
    page = text_of(client.post(url, {"action": "ignore", "note": "of old"}, follow=True))
    assert "ignored now" in page and "of old" in page
    assert "None." in text_of(client.get(listing(ingester)))
    assert "of &lt;n&gt;" in text_of(client.get(listing(ingester, "?ignored=1")))
    page = text_of(client.post(url, {"action": "ignore", "note": "again"}, follow=True))
    assert "nothing has changed" in page
    page = text_of(client.post(url, {"action": "take back", "note": "mended"}, follow=True))
    assert "no longer ignored now" in page and "mended" in page
    (row,) = IgnoredCause.objects.all()
    assert row.taken_back_note == "mended" and row.ignored_by.startswith("clerk")
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        f"Cause ignored: {CAUSE}. Note: of old",
        f"Cause no longer ignored: {CAUSE}. Note: mended",
    ]


def test_who_may_not(ingester: Ingester, make_file: MakeFile) -> None:
    tried(ingester, make_file())
    url, form = cause_url(ingester.pk, CAUSE), {"action": "ignore", "note": "n"}
    nobody, stranger, viewer = Client(), client_of(), client_of("view_ingestion")
    unseeing = client_of("rerun")
    forged = client_of("view_ingestion", "rerun", csrf=True)
    for address in (reverse("ingest:all_causes"), listing(ingester), url):
        assert nobody.get(address).status_code == 302
        assert stranger.get(address).status_code == 403
    assert nobody.post(url, form).status_code == 302
    for client in (stranger, viewer, unseeing, forged):
        assert client.post(url, form).status_code == 403
    assert not IgnoredCause.objects.exists() and not LogEntry.objects.exists()


def test_what_is_not_there(ingester: Ingester) -> None:
    client = client_of("view_ingestion", "rerun")
    for url in (
        cause_url(ingester.pk + 1, "c"),
        reverse("ingest:cause", args=[ingester.pk]),
        reverse("ingest:cause", args=[ingester.pk]) + "?cause=%00",
        reverse("ingest:causes", args=[ingester.pk + 1]),
        reverse("ingest:causes", args=[10**30]),
    ):
        assert client.get(url).status_code == 404, url
    assert client.post(cause_url(ingester.pk, "c"), {"action": "drop"}).status_code == 404
    form = {"action": "ignore", "note": "n"}
    page = text_of(client.post(cause_url(ingester.pk, "no such cause"), form, follow=True))
    assert page.count("No file stands with this cause") == 2
    assert not IgnoredCause.objects.exists()
    for query in ("?page=-1", "?page=99999999999999", "?page=x", "?q=%00%ff", "?q=\ud83d"):
        url = listing(ingester, query.encode("utf-8", "replace").decode())
        assert client.get(url).status_code == 200, query


@pytest.mark.parametrize("message", [HOSTILE, "x" * 65_536, "<n>" * 99, "\u2066" * 300])
def test_hostile_messages(ingester: Ingester, make_file: MakeFile, message: str) -> None:
    row = tried(ingester, make_file(filename=HOSTILE.replace("/", "")), message)
    client = client_of("view_ingestion", "rerun")
    url = cause_url(ingester.pk, row.cause)
    pages = [text_of(client.get(listing(ingester))), text_of(client.get(url))]
    pages.append(text_of(client.post(url, {"action": "ignore", "note": HOSTILE}, follow=True)))
    assert SHOWN in pages[-1] and IgnoredCause.objects.get().cause == row.cause
    for page in pages:
        assert "<script>alert" not in page
        assert not {"\u202e", "\x1b", "\u2066"} & set(page)
    assert Ingestion.objects.get().status == "FAILURE"
