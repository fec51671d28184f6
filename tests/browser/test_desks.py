"""Every other page that operators see, with names and messages that mean harm.

They are shown as text: nothing of them is executed, nor obeyed, nor pushes a page out of shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest
from django.urls import reverse
from django.utils import timezone

from buffer.models import (
    Alert,
    Choice,
    Component,
    Decision,
    File,
    Notice,
    OperatorPause,
    Refusal,
    Suspicion,
)
from buffer.names import escape
from buffer.pause_pages import pausing_url
from ingest import rerun_jobs
from ingest.cause_pages import cause_url
from ingest.models import FileEvent, IgnoredCause, Ingester, Ingestion, RerunJob
from ingest.statuses import Status
from tests.browser.conftest import Browser
from tests.ingest.desk import tried

MakeFile = Callable[..., File]

#: HTML of several kinds, bidi and control characters, and 64 kB without a place to break a line.
HARM: Final = (
    "<script>document.title = 'harm'</script><img src=x onerror=\"document.title = 'harm'\">"
    "</pre></td></table><b class=harm style='color:red'>\u202egnp\u2066\x1b[2J\x9b{{ 7|add:7 }}'\"&"
)
LONG: Final = HARM + "x" * 65536
NAME: Final = f"{HARM.replace('/', '')}_00001.fits"

#: What no page may have in its text: control and bidi characters.
OBEYED: Final = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"


@dataclass(frozen=True)
class Scene:
    """Rows of every kind."""

    ingester: Ingester
    file: File
    cause: str
    conflict: Refusal
    decided: Refusal
    job: RerunJob


@pytest.fixture
def scene(ingester: Ingester, make_file: MakeFile) -> Scene:
    """Harm wherever somebody else can write something."""
    now = timezone.now()
    file = make_file(filename=NAME, relpath=HARM.replace("/", ""), seen_on=now)
    ingestion = tried(ingester, file, LONG)
    other = tried(ingester, make_file(), "no flat")
    tried(ingester, make_file(), "of old", Status.UNKNOWN)
    ignored = {"ignored_by": HARM[:150], "note": LONG}
    IgnoredCause.objects.create(ingester=ingester, cause="of old", **ignored)
    said: dict[str, Any] = {"ingester": ingester, "cause": ingestion.cause, "taken_back_on": now}
    IgnoredCause.objects.create(**said, **ignored, taken_back_note=LONG)
    job = rerun_jobs.ask(
        ingester, iter([other.file_id]), described=LONG, user=HARM[:150], note=LONG
    )
    arrival: dict[str, Any] = {
        "storage": ingester.storage, "source": f"/{HARM}", "reason": "CONFLICT", "file": file,
        "checksum": "ab" * 32, "size_bytes": 7, "detail": LONG,
    }  # fmt: skip
    conflict, decided = (
        Refusal.objects.create(**arrival, path=f"{n}{escape(HARM)}", key=str(n)) for n in range(2)
    )
    Decision.objects.create(
        refusal=decided, choice=Choice.KEEP_BOTH, checksum="ab" * 32, file=file,
        new_name=NAME, user=HARM[:150], note=LONG,
    )  # fmt: skip
    FileEvent.objects.update(user=HARM[:150], ingest_ver=HARM[:64], worker=HARM[:200])
    Suspicion.objects.create(file=file, kind="CHANGED", detail=LONG, found_by=HARM[:300])
    run = {"host": "a", "pid": 7, "message": LONG, "settings": {HARM: LONG}}
    Component.objects.create(kind="finder", subject=f"/{HARM}", **run)
    Component.objects.create(kind="ingester", subject=ingester.name, **run)
    paused = {"paused_on": now, "paused_by": HARM[:150], "note": LONG}
    OperatorPause.objects.create(kind="ingester", subject=ingester.name, **paused)
    alert = Alert.objects.create(
        condition="FAILURES", kind="finder", subject=f"/{HARM}", host="a", detail=LONG,
        raised_on=now,
    )  # fmt: skip
    Notice.objects.create(alert=alert, all_clear=False, channel="email", tries=3, error=LONG)
    return Scene(ingester, file, ingestion.cause, conflict, decided, job)


def of_admin(model: str, of: Callable[[Scene], int] | None = None) -> Callable[[Scene], str]:
    """Give the address of a list or, of one row, its page."""
    if of is None:
        return lambda scene: reverse(f"admin:{model}_changelist")
    return lambda scene: reverse(f"admin:{model}_change", args=[of(scene)])


def newest(model: Any) -> Callable[[Scene], int]:
    return lambda scene: int(model.objects.latest("pk").pk)


PAGES: Final[dict[str, Callable[[Scene], str]]] = {
    "front page": lambda scene: "/admin/",
    "causes": lambda scene: reverse("ingest:causes", args=[scene.ingester.pk]),
    "ignored causes": lambda s: reverse("ingest:causes", args=[s.ingester.pk]) + "?ignored=1",
    "cause": lambda scene: cause_url(scene.ingester.pk, scene.cause),
    "rerun of a file": lambda scene: (
        f"{reverse('ingest:rerun')}?ingester={scene.ingester.pk}&file={scene.file.pk}"
    ),
    "rerun of all": lambda scene: (
        f"{reverse('ingest:rerun')}?ingester={scene.ingester.pk}&status=FAILURE"
    ),
    "jobs": lambda scene: reverse("ingest:jobs"),
    "job": lambda scene: reverse("ingest:job", args=[scene.job.pk]),
    "conflicts": lambda scene: reverse("buffer:conflicts"),
    "conflict": lambda scene: reverse("buffer:conflict", args=[scene.conflict.pk]),
    "decided conflict": lambda scene: reverse("buffer:conflict", args=[scene.decided.pk]),
    "pausing a finder": lambda scene: pausing_url("finder", escape(f"/{HARM}"), "a"),
    "resuming an ingester": lambda scene: pausing_url("ingester", scene.ingester.name),
    "files": of_admin("buffer_file"),
    "file": of_admin("buffer_file", lambda scene: scene.file.pk),
    "refusals": of_admin("buffer_refusal"),
    "refusal": of_admin("buffer_refusal", lambda scene: scene.conflict.pk),
    "components": of_admin("buffer_component"),
    "component": of_admin("buffer_component", newest(Component)),
    "pauses": of_admin("buffer_operatorpause"),
    "pause": of_admin("buffer_operatorpause", newest(OperatorPause)),
    "alerts": of_admin("buffer_alert"),
    "alert": of_admin("buffer_alert", newest(Alert)),
    "ingestions": of_admin("ingest_ingestion"),
    "ingestion": of_admin("ingest_ingestion", newest(Ingestion)),
    "events": of_admin("ingest_fileevent"),
    "event": of_admin("ingest_fileevent", newest(FileEvent)),
    "ingesters": of_admin("ingest_ingester"),
    "ingester": of_admin("ingest_ingester", lambda scene: scene.ingester.pk),
}


def harm(browser: Browser) -> list[str]:
    """Tell what of the harm has come to pass."""
    found = browser.all(".harm, img[src=x], td > table")
    assert "document.title" in browser.text, "there is harm on the page"
    obeyed = browser.run(f"return document.body.textContent.match(/{OBEYED}/g) || []")
    wide = browser.run("return document.documentElement.scrollWidth - window.innerWidth")
    clipped = browser.run(
        "return [...document.querySelectorAll('.form-row')]"
        ".filter((row) => row.scrollWidth > row.clientWidth).map((row) => row.className)"
    )
    title = ["title"] * (browser.driver.title == "harm")
    return [*(one.tag_name for one in found), *map(ascii, obeyed), *title, *clipped,
            *([f"{wide} pixels too wide"] if wide > 0 else [])]  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_harm_is_shown_and_not_done(browser: Browser, scene: Scene, name: str) -> None:
    browser.open(PAGES[name](scene))
    for theme in ("light", "dark"):
        browser.theme(theme)
        assert harm(browser) == []
        assert browser.findings() == []


def test_harm_that_is_done_is_noticed(browser: Browser, scene: Scene) -> None:
    browser.open("/admin/")
    browser.run("document.body.insertAdjacentHTML('beforeend', arguments[0])", HARM)
    browser.run("document.body.style.width = '3000px'")
    assert {"b", "'\\u202e'", "'\\x1b'"} <= set(harm(browser))
    assert any("too wide" in found for found in harm(browser))
    assert any("Content Security Policy" in said for said in browser.complaints())


def test_the_pages_that_ask_before_an_action(browser: Browser, scene: Scene) -> None:
    for model, action in (
        ("ingest_ingester", "pause_selected"),
        ("buffer_component", "resume_selected"),
        ("buffer_file", "rerun_selected"),
    ):
        browser.open(reverse(f"admin:{model}_changelist"))
        browser.find("#action-toggle").click()
        browser.run("document.querySelector('[name=action]').value = arguments[0]", action)
        browser.find(".actions button").click()
        browser.wait(lambda: browser.all("[name=confirmed]"))
        assert browser.findings() == []
        if model != "ingest_ingester":
            assert harm(browser) == []
