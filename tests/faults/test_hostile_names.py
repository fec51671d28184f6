"""Names and things in the buffer that somebody chose to do harm, the whole way through."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
import time
from pathlib import Path

import pytest

from buffer.names import escape
from ingest.statuses import Status
from tests.faults.databases import postgresql_first, sqlite_first
from tests.faults.watching import Peak
from tests.system.product import Command, Finished, Product
from tests.tally import Tally
from tests.tools import need_root

#: Taken in as they are.
GOOD = [
    "plain.fits",
    "two  words .fits",
    " leading and trailing ",
    "quote'\".fits",
    "'; DROP TABLE buffer_file; --",
    "%s%n%(x)s{0}{}.fits",
    "$(touch harm)`touch harm`;touch harm",
    "-rf",
    "--help",
    "~root",
    "*[a-z]?.fits",
    "back\\slash\\x0a.fits",
    "=cmd|' calc'!A0",
    "<script>alert(1)<!--&amp;.fits",
    "]]>-->.fits",
    "caf\u00e9.fits",
    "cafe\u0301.fits",
    "望遠鏡.fits",
    "\u202egnp.stif",
    "zero\u200bwidth\ufeff.fits",
    "line\u2028separator",
    "\U0001f52d.fits",
    "\U000e0041tag",
    "CON",
    "x" * 255,
    "\u671b" * 85,
]
#: Refused, and left where they are.
BAD = [
    b"new\nline.fits",
    b"carriage\rreturn",
    b"2026-11-25T00:00:00.000Z:buffer:INFO:forged\nline",
    b"tab\t.fits",
    b"escape\x1b[31m\x1b]0;title\x07",
    b"delete\x7f",
    b"c1\xc2\x85",
    b"latin\xe9.fits",
    b"\xff\xfe",
    b"overlong\xc0\xaf",
    b"surrogate\xed\xb2\x80",
]
#: How each record of a log begins.
_RECORD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z:[a-z_.]+:[A-Z]+:")

_PAGES = """
from django.test import Client
from django.contrib.auth.models import User
from buffer.models import File, Refusal
from ingest.models import Ingestion
client = Client(raise_request_exception=True)
client.force_login(User.objects.create_superuser("clerk"))
pages = ["/admin/"]
for model in ("buffer/file", "buffer/refusal", "ingest/ingestion", "ingest/fileevent"):
    pages.append(f"/admin/{model}/")
pages += [f"/admin/buffer/file/{f.pk}/change/" for f in File.objects.filter(relpath='')]
refusals = Refusal.objects.exclude(path__contains='/')
pages += [f"/admin/buffer/refusal/{r.pk}/change/" for r in refusals]
for page in pages:
    answer = client.get(page, headers={"host": "localhost"})
    assert answer.status_code == 200, (page, answer.status_code)
    text = answer.content.decode()
    assert "<script>alert" not in text and "\\u202e" not in text and "\\x1b" not in text, page
print(len(pages), "pages")
"""


def put(directory: Path, name: str | bytes) -> None:
    """Write a file whose content is its path, so that a mix-up shows."""
    raw = os.fsencode(name)
    with open(os.path.join(os.fsencode(directory), raw), "wb") as file:
        file.write(os.fsencode(directory.name) + b"/" + raw)


def names_in(directory: Path) -> dict[bytes, bytes]:
    """Read a directory, but for the product's own files."""
    found = {}
    with os.scandir(os.fsencode(directory)) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and entry.name != b".endpoint-storage":
                found[entry.name] = Path(os.fsdecode(entry.path)).read_bytes()
    return found


def is_clean(command: Command | Finished) -> None:
    """Check that every line on standard error is a record of the log, and all can be shown."""
    for text in (command.out, command.err):
        for line in text.splitlines():
            assert all(char.isprintable() for char in line), ascii(line)
    for line in command.err.split("\n")[:-1]:
        assert _RECORD.match(line), line


@sqlite_first
def test_names_from_landing_to_the_admin(product: Product, tally: Tally) -> None:
    product.add_plugins()
    listed = product.root / "list"
    deeper = "<b>dir& \u202e'%s"
    for directory in (product.buffer, product.buffer / deeper):
        directory.mkdir(exist_ok=True)
        for name in [*GOOD, *BAD]:
            put(directory, name)
    bad_directory = os.fsencode(product.buffer) + b"/dir\xff\n"
    os.mkdir(bad_directory)
    put(Path(os.fsdecode(bad_directory)), "innocent.fits")

    finder = product.run("runfinder", product.finder_yaml(), "--once")
    good, bad = 2 * len(GOOD), 2 * len(BAD) + 1
    assert f"{good} stored, 0 duplicates, {bad} refused" in finder.succeeded()
    is_clean(finder)
    for was, directory in (("buffer", product.storage), (deeper, product.storage / deeper)):
        expected = {os.fsencode(name): os.fsencode(f"{was}/{name}") for name in GOOD}
        assert names_in(directory) == expected
    assert set(names_in(product.buffer)) == set(BAD)
    refused = product.rows("SELECT reason, path FROM buffer_refusal WHERE resolved_on IS NULL")
    assert {reason for reason, _ in refused} == {"BAD_NAME"}
    shown = {path for _, path in refused if "/" not in path}
    assert shown == {escape(name) for name in BAD}

    ingester_yaml = product.ingester_yaml("observatory_plugins.Moody", {"list": str(listed)})
    ingester = product.run("runingester", ingester_yaml, "--once")
    ingester.succeeded()
    is_clean(ingester)
    assert product.statuses() == {Status.SUCCESS: good}

    for arguments in (["status"], ["status", "--json"], ["rerun", "--ingester", "file_events",
                      "--status", "SUCCESS", "--dry-run"]):  # fmt: skip
        is_clean_text(product.admin(*arguments).succeeded())
    for name in (GOOD[4], GOOD[13], os.fsdecode(BAD[0]), os.fsdecode(BAD[7])):
        done = product.run("explain", "--", f"{product.buffer}/{name}", DATABASE_URL=product.url)
        is_clean_text(done.succeeded())
    pages = product.admin("shell", "--verbosity=0", "-c", _PAGES).succeeded()
    assert int(pages.split()[0]) > len(GOOD) + len(BAD)
    seen = {name for (name,) in product.rows("SELECT filename FROM files")}
    assert seen == set(GOOD)
    assert not list(product.root.rglob("harm"))
    tally("hostile names", good + bad, note="taken in or refused BAD_NAME")


def is_clean_text(text: str) -> None:
    """Check that a terminal shows a text as it is."""
    assert all(char.isprintable() or char == "\n" for char in text), ascii(text)


@postgresql_first
def test_backfill_of_hostile_names(product: Product) -> None:
    for name in [*GOOD, *BAD]:
        put(product.storage, name)
    section = {"storage": str(product.storage), "sources": ["*"]}
    yaml = product.write(
        "backfill.yaml", {"database": product.database("file_events"), "backfill": section}
    )
    done = product.run("backfill", yaml, "--json")
    # Files that cannot be recorded make it fail, once the others are.
    assert done.status == 1
    summary = json.loads(done.out)
    assert (summary["added"], summary["failed"]) == (len(GOOD), len(BAD))
    is_clean_text(done.err)
    assert set(names_in(product.storage)) == {os.fsencode(name) for name in [*GOOD, *BAD]}


def test_what_is_no_regular_file(product_on_sqlite: Product, tally: Tally) -> None:
    """Refused; the finder never blocks, and reads nothing outside of the buffer."""
    need_root("make devices, and files that a finder of another user may not read")
    product = product_on_sqlite
    secret = product.root / "secret"
    secret.write_text("not yours")
    (product.root / "elsewhere").mkdir()
    (product.root / "elsewhere" / "in.fits").write_text("outside of the buffer")
    buffer = product.buffer
    (buffer / "link.fits").symlink_to(secret)
    (buffer / "dangling.fits").symlink_to("gone")
    (buffer / "loop.fits").symlink_to("loop.fits")
    (buffer / "linked").symlink_to(product.root / "elsewhere")
    os.mkfifo(buffer / "fifo.fits")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(buffer / "s.fits"))
    os.mknod(buffer / "zero.fits", stat.S_IFCHR | 0o644, os.makedev(1, 5))
    (buffer / "directory.fits").mkdir()
    product.land("directory.fits/inner.fits")
    product.land("unreadable.fits").chmod(0)
    product.land("closed/inside.fits").parent.chmod(0)
    product.land("good.fits")
    for path in (buffer / "unreadable.fits", buffer / "closed"):
        os.chown(path, 65534, 65534)

    def finder(*options: str) -> Command:
        # Root who may not do what only root may do with files, so that the rest of this machine
        # (the interpreter in root's home, say) can still be used.
        lost = "-dac_override,-dac_read_search"
        line = ["/usr/bin/setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}"]
        command = [sys.executable, "manage.py", "runfinder", product.finder_yaml(), *options]
        return product.start(*line, *command)

    begin = time.monotonic()
    done = finder("--once").ends(60)
    done.succeeded()
    is_clean(done)
    found = dict(product.rows("SELECT path, reason FROM buffer_refusal"))
    assert found == {
        **dict.fromkeys(
            ["link.fits", "dangling.fits", "loop.fits", "linked", "fifo.fits", "s.fits",
             "zero.fits"], "NOT_REGULAR"),
        **dict.fromkeys(["unreadable.fits", "closed"], "UNREADABLE"),
    }  # fmt: skip
    assert set(product.files_in(product.storage)) == {"good.fits", "directory.fits/inner.fits"}
    assert secret.read_text() == "not yours"
    # What can be mended is mended without a restart.
    running = finder()
    (buffer / "unreadable.fits").chmod(0o644)
    (buffer / "closed").chmod(0o777)
    product.wait(lambda: product.stored() == 4, "those that may be read now are stored", 60)
    running.stops()
    listener.close()
    tally("links, FIFOs, sockets, devices, unreadable", 9, time.monotonic() - begin)


def test_an_expression_that_explodes(product_on_sqlite: Product, tally: Tally) -> None:
    product = product_on_sqlite
    count = 100
    for number in range(count):
        product.land(f"{'a' * 40}{number}!")
    product.land("b.fits")
    search = {"method": "scan", "delay": 0.2, "exclude_list": ["^(a|aa)+$", "^b"]}
    begin = time.monotonic()
    done = product.run("runfinder", product.finder_yaml(search=search), "--once")
    took = time.monotonic() - begin
    assert f"{count} stored" in done.succeeded()
    assert "simplify the pattern" in done.err
    assert took < 60
    ingester = product.ingester_yaml(include_list=["^(a|aa)+$", "!$"])
    product.run("runingester", ingester, "--once").succeeded()
    assert product.statuses() == {Status.SUCCESS: count}
    tally("regular expressions that explode", 2 * count, took)


@pytest.mark.parametrize("count", [30_000, pytest.param(1_000_000, marks=pytest.mark.full)])
@pytest.mark.timeout(1800)
def test_many_files_in_one_directory(product_on_sqlite: Product, count: int, tally: Tally) -> None:
    """Streamed: the memory does not grow with them, and the first are stored soon."""
    product = product_on_sqlite
    directory = os.open(product.buffer, os.O_RDONLY)
    for number in range(count):
        # Most are passed over by name, so that the walk is what is measured.
        suffix = "fits" if number % 1000 == 0 else "skip"
        os.close(os.open(f"{number:07}.{suffix}", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)
    search = {"method": "scan", "delay": 0.2, "exclude_list": [r"\.skip$"]}
    finder = product.start("runfinder", product.finder_yaml(search=search))
    peak = Peak(finder.process.pid)
    begin = time.monotonic()
    product.wait(lambda: peak.look() and product.stored() > 0, "the first is stored")
    first = time.monotonic() - begin
    product.wait(lambda: peak.look() and product.stored() == count // 1000, "all are", 600)
    finder.stops(within_s=20)
    tally(f"{count:,} files in one directory", 1, first,
          note=f"peak memory of a process {peak.bytes >> 20} MB")  # fmt: skip
    assert peak.bytes < 200 << 20
