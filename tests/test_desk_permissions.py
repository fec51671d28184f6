"""Every page beside the admin's own, tried by everybody. What there is, the addresses tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.test import Client
from django.urls import URLResolver, get_resolver, reverse

from buffer.models import Choice, Decision, File, OperatorPause, Refusal
from ingest.groups import ADMINISTRATOR, OPERATOR, VIEWER
from ingest.models import FileEvent, IgnoredCause, Ingester, RerunJob
from ingest.statuses import Status
from tests.everybody import (
    CAUSE,
    CHECKSUM,
    EVERYBODY,
    NOBODY,
    WORKERS,
    Rows,
    client_of,
    rows,
    snapshot,
)

__all__ = ["rows"]

pytestmark = pytest.mark.django_db

Query = dict[str, str | type[Model]]


@dataclass(frozen=True, slots=True)
class Desk:
    """A page, and its form.

    Parameters
    ----------
    of : `type` [`~django.db.models.Model`], optional
        Whose row it is about, by its address.
    query : `dict`, optional
        What the address says besides; a model stands for the id of its row.
    readers : `tuple`, optional
        Who may look.
    status : `int`, optional
        What they get.
    form : `dict`, optional
        What workers may send; without one, nobody may.
    done : `dict`, optional
        What there is of `row` once that is done, and was not before.
    row : `type` [`~django.db.models.Model`], optional
        See `done`.
    """

    of: type[Model] | None = None
    query: Query = field(default_factory=dict)
    readers: tuple[str, ...] = (VIEWER, OPERATOR, ADMINISTRATOR)
    status: int = 200
    form: dict[str, str] | None = None
    row: type[Model] | None = None
    done: dict[str, Any] = field(default_factory=dict)


#: All of them, by name. One that is not here fails the tests.
DESKS: Final = {
    "buffer:conflicts": Desk(),
    "buffer:conflict": Desk(
        Refusal,
        form={"action": "KEEP_BOTH", "checksum": CHECKSUM, "new_name": "b.fits"},
        row=Decision,
        done={"choice": Choice.KEEP_BOTH, "new_name": "b.fits"},
    ),
    # It leads to a file, or to the list.
    "buffer:find": Desk(status=302),
    "buffer:pausing": Desk(
        query={"kind": "finder", "subject": "/data/buffer", "host": "here"},
        form={"action": "pause", "note": "new disk"},
        row=OperatorPause,
        done={"subject": "/data/buffer", "note": "new disk"},
    ),
    # With several ingesters; with one it leads to that one's causes.
    "ingest:all_causes": Desk(status=302),
    "ingest:causes": Desk(Ingester),
    "ingest:cause": Desk(
        Ingester,
        {"cause": CAUSE},
        form={"action": "ignore", "note": "known"},
        row=IgnoredCause,
        done={"cause": CAUSE, "note": "known"},
    ),
    # A button of a file's page.
    "ingest:verify": Desk(
        File, status=404, form={}, row=LogEntry, done={"change_message__startswith": "Verified"}
    ),
    "ingest:rerun": Desk(
        query={"ingester": Ingester, "file": File},
        readers=WORKERS,
        form={"note": "flats are in", "upto": "77"},
        row=FileEvent,
        done={"status": Status.RERUN, "note": "flats are in"},
    ),
    "ingest:jobs": Desk(),
    "ingest:job": Desk(RerunJob),
}
#: Addresses that anybody may ask for, by how they are written.
OPEN: Final = {"", "healthz", "readyz", "metrics"}
FORMS: Final = [name for name, desk in DESKS.items() if desk.form is not None]


def names(resolver: URLResolver, within: str = "") -> Iterator[str]:
    for one in resolver.url_patterns:
        if isinstance(one, URLResolver):
            yield from names(one, f"{within}{one.namespace}:" if one.namespace else within)
        else:
            yield f"{within}{one.name or one.pattern}"


def address(name: str, rows: Rows) -> str:
    desk = DESKS[name]
    url = reverse(name, args=[] if desk.of is None else [rows[desk.of].pk])
    query = {
        key: value if isinstance(value, str) else rows[value].pk
        for key, value in desk.query.items()
    }
    return f"{url}?{urlencode(query)}" if query else url


def test_every_page_is_tried() -> None:
    # The admin's own are tried by test_permissions.
    found = {name for name in names(get_resolver()) if not name.startswith("admin:")}
    assert found == set(DESKS) | OPEN


@pytest.mark.parametrize("who", EVERYBODY)
def test_who_may_look(who: str, rows: Rows) -> None:
    client = client_of(who)
    before = snapshot()
    for name, desk in DESKS.items():
        expected = 302 if who == NOBODY else desk.status if who in desk.readers else 403
        answer = client.get(address(name, rows))
        assert answer.status_code == expected, name
        if who == NOBODY:
            assert answer["Location"].startswith(reverse("admin:login")), name
    assert snapshot() == before


@pytest.mark.parametrize("who", EVERYBODY)
def test_who_may_not_act(who: str, rows: Rows) -> None:
    client = client_of(who)
    before = snapshot()
    for name, desk in DESKS.items():
        if who in WORKERS and desk.form is not None:
            continue
        form = desk.form or {"action": "ignore", "note": "known"}
        refused = (302,) if who == NOBODY else (403,) if desk.form is not None else (403, 405)
        assert client.post(address(name, rows), form).status_code in refused, name
    assert snapshot() == before


@pytest.mark.parametrize("who", WORKERS)
@pytest.mark.parametrize("name", FORMS)
def test_who_may_act(who: str, name: str, rows: Rows) -> None:
    desk = DESKS[name]
    assert desk.row is not None
    made = desk.row._default_manager.filter(**desk.done)
    assert not made.exists()
    assert client_of(who).post(address(name, rows), desk.form).status_code == 302
    assert made.count() == 1
    assert LogEntry.objects.get().user.username == who.lower()


def test_no_form_without_our_token_is_taken(rows: Rows) -> None:
    client = client_of(ADMINISTRATOR, csrf=True)
    before = snapshot()
    for name, desk in DESKS.items():
        assert client.post(address(name, rows), desk.form or {}).status_code == 403, name
    assert snapshot() == before


def test_what_anybody_may_ask_for_changes_nothing(rows: Rows) -> None:
    client = Client()
    before = snapshot()
    for path in OPEN:
        for answer in (client.get(f"/{path}"), client.post(f"/{path}")):
            assert answer.status_code in (200, 302, 405, 503), path
    assert snapshot() == before


@pytest.mark.parametrize("forged", ["x", "-1", "77777", "9" * 30, "1' OR '1'='1", "\0", "\ud800"])
def test_forged_ids(forged: str, rows: Rows) -> None:
    client = client_of(ADMINISTRATOR)
    before = snapshot()
    for name, desk in DESKS.items():
        real = address(name, rows)
        urls = []
        if desk.of is not None:
            key = quote(forged, errors="surrogatepass")
            urls.append(real.replace(f"/{rows[desk.of].pk}/", f"/{key}/"))
        for key in desk.query:
            query = urlencode(
                {**dict.fromkeys(desk.query, "1"), key: forged}, errors="surrogatepass"
            )
            urls.append(f"{real.partition('?')[0]}?{query}")
        for url in urls:
            assert url != real
            # A cause of which no file stands any more is no forgery; that is said on its page.
            of_no_file = "/one/?cause=" in url and "\0" not in forged
            assert client.get(url).status_code in ((200, 404) if of_no_file else (404,)), url
            refused = (200, 302, 404) if of_no_file else (404, 405)
            assert client.post(url, desk.form or {}).status_code in refused, url
    assert snapshot() == before
