"""Finding a file from the front page: straight to the one that is meant, else to the list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from django.urls import reverse

from buffer.models import File
from tests.ingest.desk import HOSTILE, client_of, text_of

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


@pytest.fixture
def clerk() -> Client:
    return client_of("view_file", "view_ingestion")


def found(client: Client, term: str) -> str:
    answer = client.get(reverse("buffer:find"), {"q": term})
    assert answer.status_code == 302
    return str(answer["Location"])


def listed(client: Client, term: str) -> str:
    """Give the list that a search leads to."""
    url = urlsplit(found(client, term))
    assert url.path == reverse("admin:buffer_file_changelist")
    assert parse_qs(url.query, keep_blank_values=True) == {"q": [term]}
    return text_of(client.get(url.geturl()))


def test_one_file_is_gone_to(clerk: Client, make_file: MakeFile) -> None:
    file = make_file(relpath="night", filename="g_1.fits", checksum="ab" * 32)
    make_file(relpath="night", filename="h_1.fits", checksum="cd" * 32)
    page = reverse("admin:buffer_file_change", args=[file.pk])
    path = str(PurePosixPath(file.storage.root, file.path))
    for term in ("g_1.fits", "g_", " g_ ", "night/g_1.fits", path, "AB" * 32, str(file.pk)):
        assert found(clerk, term) == page, term


def test_several_are_listed_and_none(clerk: Client, make_file: MakeFile) -> None:
    for name in ("g_1.fits", "g_2.fits", "h_1.fits"):
        make_file(filename=name)
    page = listed(clerk, "g_")
    assert "g_1.fits" in page and "g_2.fits" in page and "h_1.fits" not in page
    for term in ("z_", HOSTILE, "0" * 64, "%_"):
        page = listed(clerk, term)
        assert "g_1.fits" not in page and HOSTILE not in page
    assert "h_1.fits" in listed(clerk, "")


def test_the_front_page_asks_those_who_may_see_files(clerk: Client) -> None:
    asks = f'action="{reverse("buffer:find")}"'
    page = text_of(clerk.get(reverse("admin:index")))
    # What is swapped when the page refreshes itself comes after it.
    assert 0 < page.index(asks) < page.index('id="overview"')
    other = client_of("view_ingestion")
    assert asks not in text_of(other.get(reverse("admin:index")))
    assert other.get(reverse("buffer:find"), {"q": "g"}).status_code == 403
