"""The page of one file: its way, its neighbours and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from buffer.models import File, FindingKind, Refusal, RefusalReason, Suspicion
from ingest import rerun, transitions
from ingest.file_story import exposure_of, neighbours_of, story_of
from ingest.models import FileEvent, Ingester
from ingest.statuses import Status
from ingest.transitions import Step
from tests.ingest.desk import HOSTILE, SHOWN, client_of, text_of, tried

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]
SEEING = ("view_file", "view_ingestion", "view_fileevent")


def url_of(file: File) -> str:
    return reverse("admin:buffer_file_change", args=[file.pk])


def test_one_timeline_over_everything(ingester: Ingester, make_file: MakeFile) -> None:
    begin = timezone.now() - timedelta(hours=1)
    moments = [begin + timedelta(minutes=n) for n in range(3)]
    file = make_file(seen_on=moments[0], added_on=moments[1], stored_on=moments[2])
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    row = tried(ingester, file)
    tried(other, file, "", Status.SUCCESS)
    rerun.rerun([row.pk], user="ann", note="flats are in")
    step = Step(row.pk, file.pk, Status.RERUN, None, Status.SUCCESS, 1, duration=1.5,
                version="w_2026_47", worker="host7:42")  # fmt: skip
    assert transitions.apply(ingester.pk, [step])
    Suspicion.objects.create(file=file, kind=FindingKind.CHANGED, cleared_on=timezone.now())
    Refusal.objects.create(storage=file.storage, source="/b", path="p", key="k", file=file,
                           reason=RefusalReason.CONFLICT)  # fmt: skip
    words = [moment.word for moment in story_of(file, 50).moments]
    assert words[-3:] == ["stored", "recorded", "arrived"]
    assert {"CHANGED", "cleared", "CONFLICT", "RERUN"} <= set(words)
    page = text_of(client_of(*SEEING).get(url_of(file)))
    for text in ("1.50 s", "w_2026_47", "host7:42", "ann", "flats are in", "no flat of 7",
                 file.checksum, "other"):  # fmt: skip
        assert text in page, text
    assert "Verify on disk" not in page and "Try again at" not in page


def test_events_keep_the_order_of_their_ids(ingester: Ingester, make_file: MakeFile) -> None:
    row = tried(ingester, make_file())
    rerun.rerun([row.pk], user="ann")
    first, second, third = FileEvent.objects.order_by("pk")
    FileEvent.objects.filter(pk=second.pk).update(start_time=timezone.now() + timedelta(hours=2))
    events = [m.event for m in story_of(row.file, 50).moments if m.event is not None]
    assert events == [third, second, first]


@pytest.mark.parametrize(
    ("name", "exposure"),
    [
        ("MC_O_20261123_000123_R22_S11.fits", "MC_O_20261123_000123"),
        ("MC_O_20261123_000123.json", "MC_O_20261123_000123"),
        ("exposure_000007.fits.fz", "exposure_000007"),
        ("notes.txt", ""),
        ("ccd_12.fits", ""),
    ],
)
def test_exposure(name: str, exposure: str) -> None:
    assert exposure_of(name) == exposure


def test_neighbours(make_file: MakeFile) -> None:
    names = [f"MC_O_20261123_{n:06d}_R{raft:02d}.fits" for n in (1, 2, 3) for raft in range(4)]
    files = {name: make_file(filename=name) for name in names}
    make_file(filename=names[5], relpath="elsewhere")
    near = neighbours_of(files[names[5]])
    assert [file.filename for file in near.beside] == [*names[2:5], *names[6:9]]
    assert [file.filename for file in near.same] == [names[4], names[6], names[7]]
    assert near.exposure == "MC_O_20261123_000002" and not near.more
    page = text_of(client_of(*SEEING).get(url_of(files[names[5]])))
    assert url_of(files[names[6]]) in page


def test_buttons(ingester: Ingester, make_file: MakeFile) -> None:
    file = make_file(content=b"x")
    client = client_of(*SEEING, "rerun", "verify")
    page = text_of(client.get(url_of(file)))
    assert f"Try again at {ingester.name}" in page
    link = f"{reverse('ingest:rerun')}?ingester={ingester.pk}&amp;file={file.pk}"
    assert link in page
    url = reverse("ingest:verify", args=[file.pk])
    page = text_of(client.post(url, follow=True))
    # Its marker was never written.
    assert "not mounted on this host" in page
    assert "not mounted" in LogEntry.objects.get().change_message
    coming = make_file(stored_on=None)
    assert "Try again at" not in text_of(client.get(url_of(coming)))
    assert client.post(reverse("ingest:verify", args=[coming.pk])).status_code == 404


def test_who_may_not(ingester: Ingester, make_file: MakeFile) -> None:
    file = make_file(content=b"other")
    url = reverse("ingest:verify", args=[file.pk])
    assert Client().post(url).status_code == 302
    for client in (client_of(*SEEING), client_of("verify"), client_of(*SEEING, "rerun")):
        assert client.post(url).status_code == 403
    assert client_of(*SEEING, "verify", csrf=True).post(url).status_code == 403
    client = client_of(*SEEING, "verify")
    assert client.get(url).status_code == 404
    assert client.post(reverse("ingest:verify", args=[10**18])).status_code == 404
    assert not Suspicion.objects.exists() and not LogEntry.objects.exists()


def test_hostile_names_and_messages(ingester: Ingester, make_file: MakeFile) -> None:
    name = HOSTILE.replace("/", "|")
    file, near = make_file(filename=f"{name}00001"), make_file(filename=f"{name}00001b")
    row = tried(ingester, file, HOSTILE * 900)
    rerun.rerun([row.pk], user="ann", note=HOSTILE)
    Suspicion.objects.create(file=file, kind=FindingKind.CHANGED, detail=HOSTILE)
    Refusal.objects.create(storage=file.storage, source="/b", path=HOSTILE, key="k", file=file,
                           detail=HOSTILE, reason=RefusalReason.CONFLICT)  # fmt: skip
    client = client_of(*SEEING, "rerun", "verify")
    for one in (file, near):
        page = text_of(client.get(url_of(one)))
        assert SHOWN.replace("/", "|") in page and "<script>alert" not in page
        assert not {"\u202e", "\x1b"} & set(page)
