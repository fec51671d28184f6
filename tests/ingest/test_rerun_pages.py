"""Asking for another attempt: the exact count, the note, who may, and the progress."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from buffer.models import File, Storage
from ingest import rerun_jobs
from ingest.models import FileEvent, Ingester, Ingestion, RerunJob
from ingest.statuses import Status
from tests.ingest.desk import HOSTILE, SHOWN, client_of, text_of, tried

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]
CAUSE = "no flat of <n>"


def url_of(ingester: Ingester, **which: object) -> str:
    return f"{reverse('ingest:rerun')}?{urlencode({'ingester': ingester.pk, **which}, True)}"


def operator() -> Client:
    return client_of("rerun", "view_ingestion", "view_rerunjob", "view_file")


def upto() -> dict[str, int]:
    return {"upto": rerun_jobs.newest_event()}


def test_a_cause(ingester: Ingester, make_file: MakeFile) -> None:
    rows = [tried(ingester, make_file()) for _ in range(3)]
    other = tried(ingester, make_file(), "something else")
    client = operator()
    page = text_of(client.get(url_of(ingester, cause=CAUSE)))
    assert "<strong>3 files</strong>" in page and ingester.name in page
    assert "no flat of &lt;n&gt;" in page and str(rows[0].file) in page
    assert f'name="upto" value="{rerun_jobs.newest_event()}"' in page
    form = {**upto(), "note": "flats are in"}
    # After the page was shown: one fails anew, and one succeeds.
    tried(ingester, make_file())
    tried(ingester, rows[0].file, "", Status.SUCCESS)
    page = text_of(client.post(url_of(ingester, cause=CAUSE), form, follow=True))
    assert "2 files will be tried again" in page
    asked = FileEvent.objects.filter(status=Status.RERUN)
    assert {event.file_id for event in asked} == {row.file_id for row in rows[1:]}
    assert {(event.user, event.note) for event in asked} == {("clerk0", "flats are in")}
    other.refresh_from_db()
    assert other.status == Status.FAILURE
    entry = LogEntry.objects.get()
    assert "2 files will be tried again" in entry.change_message
    assert "flats are in" in entry.change_message


def test_after_all_files_of_a_cause_its_page_says_that_none_is_left(
    ingester: Ingester, make_file: MakeFile
) -> None:
    tried(ingester, make_file())
    client = operator()
    page = text_of(client.post(url_of(ingester, cause=CAUSE), upto(), follow=True))
    assert "1 file will be tried again" in page
    assert "No file stands with this cause now" in page and 'name="note"' not in page


def test_statuses_and_a_file(ingester: Ingester, make_file: MakeFile) -> None:
    tried(ingester, make_file(), "", Status.SUCCESS)
    tried(ingester, make_file(), "worker lost", Status.UNKNOWN)
    client = operator()
    url = url_of(ingester, status=["UNKNOWN", "INVALID"])
    assert "<strong>1 file</strong>" in text_of(client.get(url))
    client.post(url, upto())
    assert Ingestion.objects.filter(status=Status.RERUN).count() == 1
    fresh = make_file()
    url = url_of(ingester, file=fresh.pk)
    page = text_of(client.get(url))
    assert "<strong>1 file</strong>" in page and str(fresh) in page
    page = text_of(client.post(url, {**upto(), "note": "at once"}, follow=True))
    assert "1 file will be tried again" in page
    assert Ingestion.objects.get(file=fresh).status == Status.RERUN
    assert LogEntry.objects.filter(object_id=str(fresh.pk)).exists()


def test_many_are_done_in_the_background(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerun_jobs, "AT_ONCE", 3)
    for _ in range(4):
        tried(ingester, make_file())
    client = operator()
    form = {**upto(), "note": HOSTILE}
    response = client.post(url_of(ingester, cause=CAUSE), form, follow=True)
    page = text_of(response)
    assert "0 of 4" in page and "no process of" in page and SHOWN in page
    assert response["Refresh"]
    assert not Ingestion.objects.filter(status=Status.RERUN).exists()
    assert "4 files" in LogEntry.objects.get().change_message
    rerun_jobs.step(ingester.pk)
    job = RerunJob.objects.get()
    response = client.get(reverse("ingest:job", args=[job.pk]))
    page = text_of(response)
    assert "4 of 4" in page and "Finished" in page and "Refresh" not in response
    page = text_of(client.get(reverse("ingest:jobs")))
    assert SHOWN in page and "clerk0" in page


def test_a_list_of_the_admin_with_many(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the list's filters match, in the background."""
    monkeypatch.setattr(rerun_jobs, "AT_ONCE", 3)
    rows = [tried(ingester, make_file()) for _ in range(4)]
    tried(ingester, make_file(), "", Status.SUCCESS)
    client = operator()
    form = {"action": "rerun_selected", "select_across": "1", "confirmed": "yes",
            "ingester": [ingester.pk], "note": "n"}  # fmt: skip
    for model, query, pk in (
        ("ingest_ingestion", "?status__exact=FAILURE", rows[0].pk),
        ("buffer_file", "?status=FAILURE", rows[0].file_id),
    ):
        url = reverse(f"admin:{model}_changelist") + query
        page = text_of(client.post(url, {**form, "_selected_action": [pk]}, follow=True))
        assert "4 files are tried again in the background" in page
        job = RerunJob.objects.latest("pk")
        assert job.total == 4 and "FAILURE" in job.described
    while rerun_jobs.step(ingester.pk):
        pass
    assert {row.file_id for row in FileEvent.objects.filter(status=Status.RERUN)} == {
        row.file_id for row in rows
    }
    # The second request found that the first had been carried out.
    assert list(RerunJob.objects.order_by("pk").values_list("asked", "since")) == [(4, 0), (0, 4)]


def test_who_may_not(ingester: Ingester, make_file: MakeFile) -> None:
    row = tried(ingester, make_file())
    nobody, viewer = Client(), client_of("view_ingestion", "view_rerunjob")
    forged = client_of("rerun", csrf=True)
    for which in ({"cause": CAUSE}, {"status": "FAILURE"}, {"file": row.file_id}):
        url = url_of(ingester, **which)
        assert nobody.get(url).status_code == nobody.post(url, upto()).status_code == 302
        assert viewer.get(url).status_code == viewer.post(url, upto()).status_code == 403
        assert forged.post(url, upto()).status_code == 403
    job = rerun_jobs.ask(ingester, [row.file_id], described="", user="", note="")
    for url in (reverse("ingest:jobs"), reverse("ingest:job", args=[job.pk])):
        assert nobody.get(url).status_code == 302
        assert client_of("rerun").get(url).status_code == 403
        assert viewer.post(url).status_code == 405
    assert not FileEvent.objects.filter(status=Status.RERUN).exists()
    assert not LogEntry.objects.exists()


def test_forged_requests(ingester: Ingester, make_file: MakeFile) -> None:
    row = tried(ingester, make_file())
    elsewhere = Storage.objects.create(name="other", root="/other")
    astray, coming = make_file(storage=elsewhere), make_file(stored_on=None)
    client = operator()
    for url in (
        reverse("ingest:rerun"),
        url_of(ingester),
        url_of(ingester, status="NONSENSE"),
        url_of(ingester, status=["FAILURE", "' OR 1=1"]),
        url_of(ingester, cause="\0"),
        url_of(ingester, file="x"),
        url_of(ingester, file=10**30),
        url_of(ingester, file=astray.pk),
        url_of(ingester, file=coming.pk),
        reverse("ingest:rerun") + "?ingester=-1&cause=x",
        reverse("ingest:rerun") + "?ingester=77&cause=x",
    ):
        assert client.get(url).status_code == 404, url
        assert client.post(url, upto()).status_code == 404, url
    for form in ({}, {"upto": "x"}, {"upto": "9" * 30}):
        assert client.post(url_of(ingester, cause=CAUSE), form).status_code == 404
    assert client.get(reverse("ingest:job", args=[77])).status_code == 404
    row.refresh_from_db()
    assert row.status == Status.FAILURE and not RerunJob.objects.exists()
