"""Everybody at once on one database: two ingesters, a finder, backfill, people and their SQL."""

from __future__ import annotations

import contextlib
import http.cookiejar
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from ingest.statuses import Status
from tests.faults.databases import sqlite_first
from tests.servers import free_port
from tests.system.product import Command, Product
from tests.tally import Tally
from tests.tools import need

PASSWORD = "of the operator 1"
INSERT = (
    "INSERT INTO file_events (start_time, status, files_id)"
    " VALUES (CURRENT_TIMESTAMP, 'RERUN', {0});"
)


class Operator:
    """Somebody who clicks in the admin, logged in."""

    def __init__(self, port: int) -> None:
        self.top = f"http://127.0.0.1:{port}/"
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        )
        self.answers: Counter[int] = Counter()
        self.bad: list[str] = []
        self.asked = 0
        self.server: Command | None = None

    def get(self, path: str, data: list[tuple[str, str]] | None = None) -> str:
        """Ask for a page, or send a form."""
        body = urllib.parse.urlencode(data).encode() if data is not None else None
        request = urllib.request.Request(self.top + path, body, {"Referer": self.top})
        try:
            with self._opener.open(request, timeout=60) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        self.answers[status] += 1
        if status >= 400:
            self.bad.append(f"{status} {path} {data}: {text[:300]}")
        return text

    def log_in(self) -> None:
        """Log in."""
        page = self.get("admin/login/")
        form = [("username", "operator"), ("password", PASSWORD), ("next", "/admin/")]
        page = self.get("admin/login/", [*form, ("csrfmiddlewaretoken", token(page))])
        assert "Log out" in page or "logout" in page, page[:2000]

    def click(self, pages: list[str]) -> None:
        """Look at everything once, and ask for another attempt of what is on the first page."""
        for path in pages:
            self.get(path)
        listing = "admin/ingest/ingestion/?status=SUCCESS"
        page = self.get(listing)
        box = r'name="_selected_action" value="(\d+)"'
        chosen = [("_selected_action", pk) for pk in re.findall(box, page)[:3]]
        if not chosen:
            return
        form = [("action", "rerun_selected"), *chosen]
        page = self.get(listing, [*form, ("csrfmiddlewaretoken", token(page))])
        ingesters = re.findall(r'name="ingester" value="(\d+)"', page)
        assert ingesters, page[-3000:]
        answer = [("confirmed", "yes"), ("note", "again"), ("ingester", ingesters[0])]
        page = self.get(listing, [*form, *answer, ("csrfmiddlewaretoken", token(page))])
        self.asked += page.count("RERUN at ")


def token(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    return found[1] if found else ""


def serve(product: Product) -> Operator:
    """Start the web server, and log in."""
    product.environment["DJANGO_SUPERUSER_PASSWORD"] = PASSWORD
    product.environment["DJANGO_SUPERUSER_EMAIL"] = "operator@example.org"
    product.admin("createsuperuser", "--noinput", "--username", "operator").succeeded()
    port = free_port()
    arguments = "-m gunicorn endpoint_site.wsgi --workers 1 --threads 4 --no-control-socket --bind"
    server = product.start(
        sys.executable, *arguments.split(), f"127.0.0.1:{port}", DATABASE_URL=product.url
    )
    product.wait(lambda: server.says("Listening at"), "the web server is up")
    operator = Operator(port)
    operator.log_in()
    operator.server = server
    return operator


def ask_by_sql(product: Product, file_id: int) -> str:
    """Ask for another attempt as operators do, by the database's own shell; give its complaint."""
    statement = INSERT.format(file_id)
    if product.is_postgresql:
        command = [need("psql"), product.url, "-v", "ON_ERROR_STOP=1", "-c", statement]
    else:
        path = product.url.removeprefix("sqlite:///")
        # Like any program but ours it waits for a lock only if it is told to.
        command = [need("sqlite3"), "-cmd", ".timeout 30000", path, statement]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@contextlib.contextmanager
def meanwhile(*works: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Do things again and again in threads, and say what went wrong in them."""
    over, errors = threading.Event(), list[BaseException]()

    def loop(work: Callable[[], object]) -> None:
        try:
            while not over.wait(0.05):
                work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        over.set()
        for thread in threads:
            thread.join()


@sqlite_first
@pytest.mark.timeout(1700)
@pytest.mark.parametrize("files", [pytest.param(20_000, marks=pytest.mark.full), 1000])
def test_each_file_is_claimed_once_and_nobody_sees_a_lock(
    files: int, product: Product, tally: Tally
) -> None:
    product.add_plugins()
    operator = serve(product)
    for number in range(files):
        product.land(f"night/{number:05d}.fits", b"%d" % number)
    for number in range(files // 10):
        path = product.storage / f"before/older-{number:05d}.fits"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number)
    product.start("runfinder", product.finder_yaml())
    product.wait(product.stored, "the finder is at work")
    ingester_yaml = product.ingester_yaml(num_threads=4, batch_size=20)
    for _ in range(2):
        product.start("runingester", ingester_yaml)
    config = {"storage": str(product.storage), "sources": ["before"]}
    sections = {"database": product.database("file_events"), "backfill": config}
    backfill = product.start("backfill", product.write("backfill.yaml", sections))
    complaints: list[str] = []
    asked = 0

    def look() -> None:
        product.admin("status", "--json").succeeded()
        product.admin("explain", str(product.storage / "night/00000.fits")).succeeded()

    def insert() -> None:
        nonlocal asked
        asked += 1
        complaint = ask_by_sql(product, asked % files + 1)
        # A file that is claimed just now is refused, and so is one that is not stored yet.
        if complaint and "being ingested right now" not in complaint and "no file" not in complaint:
            complaints.append(complaint)

    pages = [
        "admin/",
        "admin/buffer/file/",
        "admin/buffer/file/1/change/",
        "admin/ingest/fileevent/",
        "admin/ingest/ingestion/",
        "admin/buffer/component/",
    ]
    product.wait(product.all_statuses, "the ingester is known, and so its view is there")
    begin = time.monotonic()
    with meanwhile(lambda: operator.click(pages), look, insert) as errors:
        product.wait(lambda: product.final() >= files + files // 10, "all is done", 1500)
    took = time.monotonic() - begin
    operator.click(pages)
    assert " 0 failed" in backfill.ends().succeeded()
    product.wait(lambda: not product.statuses()[Status.RERUN], "what was asked for is done")
    product.wait(
        lambda: not product.value("SELECT count(*) FROM ingest_ingestion WHERE claim IS NOT NULL"),
        "nothing is held",
    )
    for command in product.commands:
        if command.running:
            command.stops()
    product.check_at_rest()

    assert errors == []
    assert complaints == []
    assert operator.bad == [], operator.server
    assert operator.asked > 0
    for command in product.commands:
        assert "is locked" not in command.out + command.err, command
    # Each was claimed once, and again only if somebody asked for it: at most so often.
    events = {
        (status, file_id): count
        for status, file_id, count in product.rows(
            "SELECT status, file_id, count(*) FROM ingest_fileevent GROUP BY 1, 2"
        )
    }
    begun = {file_id: n for (status, file_id), n in events.items() if status == Status.PENDING}
    for file_id, count in begun.items():
        expected = events.get((Status.RERUN, file_id), 0) + ((Status.UNTRIED, file_id) in events)
        assert count == events[Status.SUCCESS, file_id] and count <= expected, file_id
    assert len(begun) >= files
    kind = "PostgreSQL" if product.is_postgresql else "SQLite"
    tally(
        f"{kind}: 8 workers, 2 ingesters and everybody else",
        files,
        note=f"{took:.0f} s, {operator.answers.total()} pages, {asked} by SQL, 0 locks",
    )
