"""The collision desk: what is shown, who may decide, and what a forged form does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from buffer import decisions
from buffer.models import Choice, Component, ComponentKind, Decision, Refusal
from tests.buffer.conftest import Ground, cycle, ground
from tests.buffer.test_collisions import NAME, rest
from tests.buffer.test_fits_headers import fits
from tests.ingest.desk import HOSTILE, SHOWN, client_of, text_of

__all__ = ["ground"]

pytestmark = pytest.mark.django_db

OLD, NEW = fits("EXPTIME = 30", "OBJECT = 'M 31'"), fits("EXPTIME = 15", "FILTER = 'r'")


@pytest.fixture
def refusal(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """A conflict of two FITS files."""
    monkeypatch.setattr(decisions, "REFRESH_S", 0.0)
    (tmp_path / "aside").mkdir()
    ground.options["duplicates"] = str(tmp_path / "aside")
    for content in (OLD, NEW):
        ground.put(NAME, content)
        cycle(ground.finder())
    return Refusal.objects.get()


def url_of(refusal: Refusal) -> str:
    return reverse("buffer:conflict", args=[refusal.pk])


def form_of(refusal: Refusal, action: str, **fields: Any) -> dict[str, Any]:
    return {"action": action, "checksum": refusal.checksum, "note": "seen", **fields}


def operator() -> Client:
    return client_of("view_refusal", "resolve_conflict")


def test_side_by_side(refusal: Refusal) -> None:
    client = client_of("view_refusal")
    page = text_of(client.get(reverse("buffer:conflicts")))
    assert NAME in page and "to be decided" in page
    page = text_of(client.get(url_of(refusal)))
    assert refusal.file is not None
    for text in (refusal.checksum, refusal.file.checksum, "EXPTIME", "30", "15", "M 31",
                 "(not there)", "3 keywords differ"):  # fmt: skip
        assert text in page, text
    assert "Keep both" not in page


def test_keep_both(refusal: Refusal, ground: Ground) -> None:
    client = operator()
    page = text_of(client.get(url_of(refusal)))
    name = f"a.conflict-{refusal.checksum[:8]}.fits"
    assert f'value="{name}"' in page
    form = form_of(refusal, "KEEP_BOTH", new_name=name)
    page = text_of(client.post(url_of(refusal), form, follow=True))
    assert "carries it out" in page and "Take it back" in page
    page = text_of(client.post(url_of(refusal), form_of(refusal, "KEEP_STORED"), follow=True))
    assert "somebody has decided already" in page
    assert "waits for the finder" in text_of(client.get(reverse("buffer:conflicts")))
    # The web has touched nothing.
    assert (ground.source / NAME).read_bytes() == NEW
    rest(ground)
    assert ground.stored(f"2026/{name}") == NEW and ground.stored(NAME) == OLD
    page = text_of(client.get(url_of(refusal)))
    assert "both are kept" in page and "Keep both as" in page and "clerk0" in page
    assert [entry.change_message for entry in LogEntry.objects.all()] == [
        "Decided to keep both. Note: seen"
    ]


def test_keep_stored_and_take_back(refusal: Refusal, ground: Ground) -> None:
    client = operator()
    client.post(url_of(refusal), form_of(refusal, "KEEP_STORED"))
    page = text_of(client.post(url_of(refusal), {"action": "TAKE_BACK"}, follow=True))
    assert "taken back" in page
    rest(ground)
    assert (ground.source / NAME).read_bytes() == NEW
    client.post(url_of(refusal), form_of(refusal, "KEEP_STORED"))
    rest(ground)
    assert not (ground.source / NAME).exists()
    page = text_of(client.post(url_of(refusal), {"action": "TAKE_BACK"}, follow=True))
    assert "nothing left to take back" in page


SIDECAR = NAME.replace(".fits", ".json")


def test_a_sidecar_that_is_stored(refusal: Refusal, ground: Ground) -> None:
    client = operator()
    assert "is not renamed with it" not in text_of(client.get(url_of(refusal)))
    ground.put(SIDECAR, b"{}")
    cycle(ground.finder())
    page = text_of(client.get(url_of(refusal)))
    assert "<code>a.json</code> describes this file and is not renamed with it" in page
    assert f"unless you put <code>a.conflict-{refusal.checksum[:8]}.json</code>" in page
    form = form_of(refusal, "KEEP_BOTH", new_name="b.fits")
    client.post(url_of(refusal), form)
    rest(ground)
    assert ground.stored("2026/b.fits") == NEW and ground.stored(SIDECAR) == b"{}"


@pytest.mark.parametrize("decided_first", [True, False])
def test_a_sidecar_with_a_conflict_of_its_own(
    refusal: Refusal, ground: Ground, decided_first: bool
) -> None:
    for content in (b"{}", b'{"new": 1}'):
        ground.put(SIDECAR, content)
        cycle(ground.finder())
    other = Refusal.objects.exclude(pk=refusal.pk).get()
    client = operator()
    page = text_of(client.get(url_of(refusal)))
    stem = f"a.conflict-{refusal.checksum[:8]}"
    assert url_of(other) in page and f"as <code>{stem}.json</code>" in page
    # The name goes with that of the file, also if somebody chose another one.
    if decided_first:
        stem = "a.second"
        client.post(url_of(refusal), form_of(refusal, "KEEP_BOTH", new_name=f"{stem}.fits"))
    page = text_of(client.get(url_of(other)))
    assert f'value="{stem}.json"' in page and "is not renamed with it" not in page
    client.post(url_of(other), form_of(other, "KEEP_BOTH", new_name=f"{stem}.json"))
    rest(ground)
    assert ground.stored(f"2026/{stem}.json") == b'{"new": 1}' and ground.stored(SIDECAR) == b"{}"


def test_later(refusal: Refusal, ground: Ground) -> None:
    client = operator()
    page = text_of(client.post(url_of(refusal), form_of(refusal, "LATER"), follow=True))
    assert "nothing was done" in page and "seen" in page
    rest(ground)
    assert (ground.source / NAME).read_bytes() == NEW
    assert Refusal.objects.get().resolved_on is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a.part", "a.fits", "x" * 256, "\x1b"])
def test_names_that_cannot_be(refusal: Refusal, name: str) -> None:
    form = form_of(refusal, "KEEP_BOTH", new_name=name)
    page = text_of(operator().post(url_of(refusal), form, follow=True))
    assert "Nothing was decided" in page and "\x1b" not in page
    assert not Decision.objects.exists()


def test_who_may_not(refusal: Refusal) -> None:
    form = form_of(refusal, "KEEP_STORED")
    viewer, blind = client_of("view_refusal"), client_of("resolve_conflict")
    forged = client_of("view_refusal", "resolve_conflict", csrf=True)
    assert Client().post(url_of(refusal), form).status_code == 302
    for client in (viewer, blind, forged, client_of()):
        assert client.post(url_of(refusal), form).status_code == 403
    for url in (url_of(refusal), reverse("buffer:conflicts")):
        assert Client().get(url).status_code == 302
        assert blind.get(url).status_code == 403
    assert not Decision.objects.exists() and not LogEntry.objects.exists()


def test_forged_forms(refusal: Refusal) -> None:
    client, url = operator(), url_of(refusal)
    assert client.post(url, form_of(refusal, "DELETE")).status_code == 404
    assert client.post(url, {}).status_code == 404
    other = reverse("buffer:conflict", args=[refusal.pk + 1])
    assert client.get(other).status_code == 404 == client.post(other, {}).status_code
    page = text_of(client.post(url, {**form_of(refusal, "LATER"), "checksum": "x"}, follow=True))
    assert "has changed since this page was shown" in page
    assert client.get(reverse("buffer:conflicts") + "?page=x").status_code == 200
    Refusal.objects.update(reason="BAD_NAME")
    assert client.get(url).status_code == 404
    assert client.post(url, form_of(refusal, "KEEP_STORED")).status_code == 404
    assert not Decision.objects.exists()


def test_a_host_that_has_neither(refusal: Refusal, ground: Ground) -> None:
    client = operator()
    ground.storage.root = "/nowhere"
    ground.storage.save()
    assert "stored file cannot be read on this host" in text_of(client.get(url_of(refusal)))
    Refusal.objects.update(source="/nowhere")
    assert "arrival cannot be read on this host" in text_of(client.get(url_of(refusal)))


def test_a_finder_without_a_place_aside_is_told_of(refusal: Refusal) -> None:
    warning = "has no <code>duplicates</code>"
    finder = {"kind": ComponentKind.FINDER, "subject": refusal.source, "host": "h", "pid": 1}
    Component.objects.create(settings={"storage": "/s", "duplicates": "/d"}, **finder)
    assert warning not in text_of(operator().get(url_of(refusal)))
    Component.objects.create(settings={"storage": "/s", "duplicates": None}, **finder)
    assert warning in text_of(operator().get(url_of(refusal)))


def test_hostile_text(refusal: Refusal, ground: Ground) -> None:
    name = HOSTILE.replace("/", "|").replace("\x1b", "") + ".fits"
    for content in (fits("OBJECT = 'x'"), fits(f"OBJECT = '{'<b>' + chr(0x1B)}'")):
        ground.put(name, content)
        cycle(ground.finder())
    row = Refusal.objects.latest("pk")
    Refusal.objects.filter(pk=row.pk).update(detail=HOSTILE * 900)
    Decision.objects.create(refusal=row, choice=Choice.LATER, checksum="c", user=HOSTILE,
                            note=HOSTILE * 900, done_on=row.last_seen, outcome=HOSTILE)  # fmt: skip
    client = operator()
    pages = [text_of(client.get(url)) for url in (reverse("buffer:conflicts"), url_of(row))]
    assert SHOWN in pages[1] and "&lt;b&gt;\\x1b" in pages[1]
    for page in pages:
        assert "<script>alert" not in page and "<b>" not in page
        assert "\x1b" not in page
