"""What an operator does all day, with the real commands at work behind the real site.

Every page on the way is looked at: no error, no broken policy, open to everybody. The clicks are
counted; docs/operations.md says how many they are.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException

from ingest.statuses import Status
from tests.browser.conftest import visiting
from tests.browser.operator import FRONT_PAGE, Operator
from tests.system.conftest import (
    installed,
    postgresql_database,
    postgresql_server,
    postgresql_template,
    sqlite_database,
    sqlite_template,
)
from tests.system.product import ROOT, Product

__all__ = [
    "postgresql_database",
    "postgresql_server",
    "postgresql_template",
    "sqlite_database",
    "sqlite_template",
]

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("chromium")]

PASSWORD = "of the night shift"
_OPERATOR = f"""
from django.contrib.auth.models import Group, User
user = User.objects.create_user("ann", password={PASSWORD!r}, is_staff=True)
user.groups.add(Group.objects.get(name="Operator"))
"""
GOOD, FAILED = "g_000001.fits", "i_000123.fits"
OTHER_CONTENT = "something else"
NOTE = "filter i is registered now"


class Night:
    """An observatory's night: finder, ingester and site at work, filter g registered.

    Parameters
    ----------
    product
        What it is the night of.
    """

    def __init__(self, product: Product) -> None:
        self.product = product
        self.registered, self.aside = product.root / "registered", product.root / "aside"
        self.registered.write_text("g\n")
        self.aside.mkdir()
        product.add_plugins()
        config = {"list": str(product.root / "listed"), "registered": str(self.registered)}
        ingester = product.ingester_yaml("observatory_plugins.Registry", config)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{listener.getsockname()[1]}"
        self.site = f"http://{address}"
        server = "-m gunicorn endpoint_site.wsgi --threads 4 --graceful-timeout 1 --bind"
        self.commands = [
            product.start("runfinder", product.finder_yaml(duplicates=str(self.aside))),
            product.start("runingester", ingester),
            product.start(
                sys.executable, *server.split(), address, "--no-control-socket",
                DATABASE_URL=product.url,
            ),
        ]  # fmt: skip
        product.admin("shell", "-c", _OPERATOR).succeeded()
        product.wait(lambda: self.commands[-1].says("Listening at"), "the site is served")

    def land(self, *names: str) -> None:
        """Let files arrive, and wait until each was tried."""
        for name in names:
            self.product.land(f"night/{name}")
        self.product.wait(lambda: self.product.final() == len(names), "all were tried")

    def land_again(self, *names: str) -> None:
        """Let stored files arrive with other content, and wait until they are conflicts."""
        for name in names:
            self.product.land(f"night/{name}", OTHER_CONTENT)
        standing = "SELECT count(*) FROM buffer_refusal WHERE resolved_on IS NULL"
        self.product.wait(lambda: self.product.value(standing) == len(names), "conflicts stand")

    def stored(self, name: str) -> Path:
        return self.product.storage / "night" / name

    def is_in(self, name: str) -> bool:
        return self.product.status_of(name) == Status.SUCCESS

    def ends(self) -> None:
        """Stop everything; check that it stops as it should, and that all is at rest."""
        for command in self.commands:
            command.stops()
        self.product.check_at_rest()


@pytest.fixture
def night(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Night]:
    """A night on the kind of database that this run of the suite is for."""
    kind = os.environ.get("TEST_DATABASE", "sqlite")
    for product in installed(request.getfixturevalue(f"{kind}_database"), tmp_path):
        night = Night(product)
        yield night
        night.ends()


@pytest.fixture
def operator(night: Night, chromium: webdriver.Chrome, downloads: Path) -> Iterator[Operator]:
    """A member of the group Operator; in the end the clicks are compared with what is promised."""
    with visiting(chromium, night.site) as browser:
        operator = Operator(browser, downloads)
        operator.log_in("ann", PASSWORD)
        yield operator
    promised = clicks_promised()
    for task, effort in operator.efforts.items():
        print(f"{task}: {effort.clicks} clicks, {effort.seconds:.1f} s")
        assert effort.clicks == promised[task], task


def clicks_promised() -> dict[str, int]:
    """Read the table of clicks in the documentation."""
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| (\d+) \| [^|]+ \|$", text, re.MULTILINE)
    return {task: int(clicks) for task, clicks in rows}


def test_what_failed_is_found_mended_and_tried_again(night: Night, operator: Operator) -> None:
    night.land(GOOD, FAILED, "i_000124.fits", "i_000125.fits", "z_000200.fits")
    cause, other = "filter i is not registered", "filter z is not registered"
    with operator.does("find why files are not ingested"):
        operator.reads("What needs a person now", "FAILURE", cause, other)
        operator.click("See the cause", beside=cause)
        operator.click(FAILED)
        operator.reads("FAILURE", f"{FAILED}: {cause}")
    night.registered.write_text("g i\n")
    with operator.does("try one file again"):
        operator.click("See the cause", beside=cause)
        operator.click(FAILED)
        operator.click("Try again at file_events")
        operator.write("Note:", NOTE)
        operator.click("Try 1 file again")
        operator.reads("1 file will be tried again")
        operator.reloads_until("SUCCESS", NOTE, "ann")
    assert night.product.history(FAILED)[2:] == ["FAILURE", "RERUN", "PENDING", "SUCCESS"]
    with operator.does("try all files of a cause again"):
        operator.click("See the cause", beside=cause)
        operator.click("Try all 2 again")
        operator.write("Note:", NOTE)
        operator.click("Try 2 files again")
        operator.reads("2 files will be tried again", "No file stands with this cause")
        operator.waits(lambda: night.product.statuses()[Status.SUCCESS] == 4)
    with operator.does("ignore a cause"):
        assert cause not in operator.browser.text
        operator.click("See the cause", beside=other)
        operator.write("Why it may be ignored:", "z is not used")
        operator.click("Ignore with this note")
        operator.reads("The cause is ignored now", "z is not used")
    operator.go(FRONT_PAGE)
    operator.reads("Nothing needs a person")
    assert night.product.status_of("z_000200.fits") == Status.FAILURE


def test_a_file_is_found_verified_and_listed(night: Night, operator: Operator) -> None:
    night.land(GOOD, FAILED)
    with operator.does("find a file by its name, path or checksum"):
        operator.write("Find a file:", "g_0000")
        operator.click("Find")
        operator.reads(str(night.stored(GOOD)), "SUCCESS")
    checksum = night.product.value("SELECT checksum FROM buffer_file WHERE filename = %s", GOOD)
    begin = time.monotonic()
    for term in (GOOD, str(night.stored(GOOD)), checksum):
        assert f"night/{GOOD}: there" in night.product.admin("explain", term).succeeded()
    print(f"explain a file: {(time.monotonic() - begin) / 3:.1f} s")
    content = night.stored(GOOD).read_bytes()
    night.stored(GOOD).write_bytes(content.upper())
    with operator.does("verify a file on disk"):
        operator.write("Find a file:", checksum)
        operator.click("Find")
        operator.click("Verify on disk now")
        operator.reads("CHANGED")
    night.stored(GOOD).write_bytes(content)
    operator.click("Verify on disk now")
    operator.reads("as recorded")
    with operator.does("export failures as CSV"):
        operator.click("Failures by cause")
        operator.click("Export as CSV")
        (exported,) = operator.downloads()
    assert "filter i is not registered,1," in exported
    with operator.does("export files as CSV"):
        operator.click("Files")
        operator.tick("Select all")
        operator.choose("Action:", "Export selected as CSV")
        operator.click("Go")
        (exported,) = operator.downloads()
    assert GOOD in exported and FAILED in exported


def test_a_conflict_is_resolved(night: Night, operator: Operator) -> None:
    first, second = "g_000001.fits", "g_000002.fits"
    night.land(first, second)
    night.land_again(first, second)
    with operator.does("resolve a conflict"):
        operator.click("Decide", beside="CONFLICT")
        operator.click(first)
        operator.reads("Side by side", "they are not both FITS files")
        operator.write("Note:", "both are wanted")
        operator.click("Keep both")
        operator.reads("Decided to keep both: the finder carries it out")
        operator.reloads_until("Resolved", "both are kept", "both are wanted")
    (other,) = night.product.storage.glob("night/g_000001.conflict-*.fits")
    assert other.read_text() == OTHER_CONTENT
    operator.go(FRONT_PAGE)
    operator.click("Decide", beside="CONFLICT")
    operator.click(second)
    operator.click("Keep the stored file")
    operator.reads("Decided to keep the stored file")
    operator.reloads_until("Resolved", "set aside")
    (aside,) = (path for path in night.aside.rglob("*") if path.is_file())
    assert aside.read_text() == OTHER_CONTENT
    for name in (first, second):
        assert night.stored(name).read_text() == f"content of night/{name}\n"
    operator.waits(lambda: night.is_in(other.name))
    operator.go(FRONT_PAGE)
    operator.reads("Nothing needs a person")


def pause(operator: Operator, what: str, *, beside: str, called: str, note: str) -> None:
    """Pause a component from its row on the front page, and read who did it and why."""
    with operator.does(f"pause {what}"):
        operator.click("Pause", beside=beside)
        operator.write("Note:", note)
        operator.click("Pause")
        operator.reads(f"{called}: paused", "paused by ann", note)


def resume(
    operator: Operator, what: str, *, called: str, note: str, night: Night, late: str
) -> None:
    """Resume it from what needs a person, and wait until a file that came meanwhile got in."""
    with operator.does(f"resume {what}"):
        operator.click("Resume it there")
        operator.write("Note:", note)
        operator.click("Resume")
        operator.reads(f"{called}: goes on")
        operator.waits(lambda: night.is_in(late))
    operator.go(FRONT_PAGE)
    operator.reads("Nothing needs a person")


def test_an_ingester_is_paused_and_resumed(night: Night, operator: Operator) -> None:
    night.land(GOOD)
    name = "file_events"
    pause(operator, "an ingester", beside=name, called=name, note="the registry moves")
    late = "g_000009.fits"
    night.product.land(f"night/{late}")
    operator.waits(lambda: night.product.status_of(late) == Status.UNTRIED)
    with pytest.raises(TimeoutException):
        # Ten of the ingester's cycles.
        operator.waits(lambda: night.product.history(late) != [Status.UNTRIED], seconds=1)
    operator.go(FRONT_PAGE)
    operator.reads("a person has paused it", "the registry moves")
    resume(operator, "an ingester", called=name, note="it has moved", late=late, night=night)


def test_a_finder_is_paused_and_resumed(night: Night, operator: Operator) -> None:
    night.land(GOOD)
    name = f"{night.product.buffer} on {socket.gethostname()}"
    pause(operator, "a finder", beside="finder", called=name, note="a disk is exchanged")
    late = "g_000009.fits"
    night.product.land(f"night/{late}")
    arrival = night.product.buffer / "night" / late
    with pytest.raises(TimeoutException):
        # Ten of the finder's cycles.
        operator.waits(lambda: not arrival.exists(), seconds=1)
    resume(operator, "a finder", called=name, note="it is in", late=late, night=night)
