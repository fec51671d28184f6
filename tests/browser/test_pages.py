"""The front page and the lists in a real browser: no error, no broken policy, open to everybody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.keys import Keys

from buffer.models import Component, File, Refusal, RefusalReason, Suspicion
from ingest import transitions
from ingest.models import Breaker, Ingester, Ingestion
from ingest.statuses import Status
from ingest.transitions import Step
from tests.browser.conftest import Browser

MakeFile = Callable[..., File]

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202egnp"
LISTS = {
    "file": "/admin/buffer/file/",
    "refusal": "/admin/buffer/refusal/",
    "component": "/admin/buffer/component/",
    "suspicion": "/admin/buffer/suspicion/",
    "ingester": "/admin/ingest/ingester/",
    "ingestion": "/admin/ingest/ingestion/",
    "event": "/admin/ingest/fileevent/",
}


def settle(ingester: Ingester, file: File, status: Status, message: str = "") -> Ingestion:
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    row = Ingestion.objects.get(ingester=ingester, file=file)
    step = Step(row.pk, file.pk, Status.UNTRIED, None, status, 1, cause=message, message=message)
    assert transitions.apply(ingester.pk, [step])
    row.refresh_from_db()
    return row


@pytest.fixture
def scene(ingester: Ingester, make_file: MakeFile) -> Ingester:
    """One of everything, hostile names included."""
    now = timezone.now()
    for status in (Status.SUCCESS, Status.FAILURE, Status.UNKNOWN, Status.INVALID, Status.IGNORED):
        file = make_file(
            filename=f"{status}{HOSTILE.replace('/', '')}", seen_on=now - timedelta(seconds=9)
        )
        settle(ingester, file, status, "" if status == Status.SUCCESS else f"{HOSTILE} {status}")
        Suspicion.objects.get_or_create(file=file, defaults={"kind": "CHANGED"})
    Component.objects.create(kind="finder", subject="/data/buffer", host="a", pid=1, message="full")
    Component.objects.create(
        kind="ingester", subject=HOSTILE, host="a", pid=2, seen_on=now - timedelta(minutes=5)
    )
    Breaker.objects.create(ingester=ingester, message=HOSTILE, opened_on=now, probe_on=now)
    for n, reason in enumerate(RefusalReason.values):
        Refusal.objects.create(
            storage=ingester.storage, source="/b", path=f"{n}{HOSTILE}", key=str(n), reason=reason
        )
    make_file()
    return ingester


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_front_page(browser: Browser, scene: Ingester, theme: str) -> None:
    browser.open("/admin/")
    browser.theme(theme)
    assert browser.run("return document.documentElement.dataset.theme") == theme
    for words in (
        "What needs a person now",
        "paused",
        "silent",
        "FAILURE",
        "CONFLICT",
        HOSTILE[:9],
    ):
        assert words in browser.text
    assert len(browser.all(".chart svg")) == 4
    assert browser.findings() == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", LISTS)
def test_lists(browser: Browser, scene: Ingester, name: str, theme: str) -> None:
    browser.open(LISTS[name])
    browser.theme(theme)
    assert browser.all("#result_list tbody tr")
    assert browser.findings() == []


def test_an_axe_that_finds_nothing_is_blunt(browser: Browser) -> None:
    browser.open("/admin/")
    browser.run("document.getElementById('overview').innerHTML = '<img src=\"data:,\">'")
    assert any("image-alt" in found for found in browser.findings())
    assert any("img-src" in said for said in browser.complaints()), "the policy forbids it"


def test_from_the_front_page_to_the_files_of_a_cause(browser: Browser, scene: Ingester) -> None:
    browser.open("/admin/")
    (row,) = (r for r in browser.all(".needs tbody tr") if "FAILURE" in r.text)
    row.find_element("css selector", "a").click()
    browser.wait(lambda: "/one/" in browser.driver.current_url)
    assert "Try all 1 again" in browser.text
    assert any("FAILURE" in line.text for line in browser.all("tbody tr"))
    assert browser.findings() == []


def test_a_day_is_chosen(browser: Browser, scene: Ingester) -> None:
    browser.open(LISTS["event"] + "?status__exact=FAILURE")
    day = browser.find("#filter-day")
    browser.run("arguments[0].value = '2020-01-01'", day)
    day.find_element("xpath", "following-sibling::button").click()
    browser.wait(lambda: "day=2020-01-01" in browser.driver.current_url)
    assert "status__exact=FAILURE" in browser.driver.current_url
    assert not browser.all("#result_list tbody tr")


def often(browser: Browser) -> None:
    """Have the page refresh itself all the time."""
    # Whatever it swaps says anew how long it is to wait.
    browser.run("const later = window.setTimeout; window.setTimeout = (what) => later(what, 100)")
    browser.run(
        "const again = document.createElement('script');"
        "again.src = document.querySelector('script[src*=refresh]').src;"
        "document.head.append(again)"
    )


def test_it_refreshes_itself_and_stays_in_place(browser: Browser, scene: Ingester) -> None:
    browser.open("/admin/")
    often(browser)
    browser.run("document.getElementById('arrivals-table').open = true; window.scrollTo(0, 300)")
    Refusal.objects.all().delete()
    browser.wait(lambda: "CONFLICT" not in browser.text)
    assert browser.run("return document.getElementById('arrivals-table').open")
    assert browser.run("return window.scrollY") == 300
    # Whoever selects something, or has put it off, is left alone.
    for begin, end in (
        ("document.getSelection().selectAllChildren(document.querySelector('#overview h2'))",
         "document.getSelection().removeAllRanges()"),
        ("document.getElementById('refresh-by-itself').click()",) * 2,
    ):  # fmt: skip
        browser.run(begin)
        browser.run("document.getElementById('overview').dataset.old = 'yes'")
        with pytest.raises(TimeoutException):
            browser.wait(lambda: not browser.all("[data-old]"), 1)
        browser.run(end)
        browser.wait(lambda: not browser.all("[data-old]"))


def test_what_is_typed_outlasts_a_refresh(browser: Browser, scene: Ingester) -> None:
    browser.open("/admin/")
    often(browser)
    field = browser.find("#find-file")
    field.send_keys("SUCC")
    browser.run("document.getElementById('overview').dataset.old = 'yes'")
    browser.wait(lambda: not browser.all("[data-old]"))
    # Neither the text nor the place in it is lost, and the keyboard is enough.
    field.send_keys("ESS", Keys.ENTER)
    browser.wait(lambda: "/change/" in browser.driver.current_url)
    assert "SUCCESS<script>" in browser.text


def test_it_says_when_it_cannot_refresh(browser: Browser, scene: Ingester) -> None:
    browser.open("/admin/")
    often(browser)
    browser.driver.delete_all_cookies()
    browser.wait(lambda: "Not refreshed: you are logged out" in browser.text)
    assert browser.all("#overview .needs")
