"""`manage.py audit` finds what was done to the storage or to its rows, and nothing else."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blake3
import pytest

from tests.faults.databases import postgresql_first, sqlite_first
from tests.system.product import Finished, Product
from tests.tally import Tally
from tests.tools import need

Found = set[tuple[str, str]]

#: Prints the peak memory of a command in kB as its last word.
_MEASURED = (
    "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:]);"
    " print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr);"
    " sys.exit(status)"
)


def fill(product: Product, count: int) -> list[str]:
    """Let a finder take in files of some sizes; give their paths."""
    random.seed(7)
    paths = [f"2026-11-{n % 20 + 1:02d}/exposure_{n:05d}.fits" for n in range(count)]
    for path in paths:
        product.land(path, random.randbytes(random.choice((1, 700, 5000, 70_000))))
    product.run("runfinder", product.finder_yaml(), "--once", within_s=600).succeeded()
    assert product.stored() == count
    return paths


def audited(done: Finished) -> tuple[Found, dict[str, Any]]:
    """Read what an audit found, and check that its exit status says whether it found anything."""
    assert "Traceback" not in done.err, done.err
    document = json.loads(done.out)
    found = [(one["kind"], one["path"]) for one in document["findings"]]
    assert len(set(found)) == len(found)
    (report,) = document["storages"]
    assert report["complete"] and report["error"] == ""
    assert done.status == (1 if found else 0), done.err
    return set(found), report


def audit(product: Product, *options: str) -> Found:
    return audited(run_audit(product, *options))[0]


def run_audit(product: Product, *options: str) -> Finished:
    return product.run("audit", "--json", *options, within_s=600, DATABASE_URL=product.url)


class Damage:
    """Does something of each kind to the storage and its rows, several times, and undoes it.

    Parameters
    ----------
    product
        An installation with files.
    paths
        Those that may be hurt.
    times
        How often each kind.
    """

    def __init__(self, product: Product, paths: list[str], times: int) -> None:
        self.product, self.root = product, product.storage
        self._free = iter(random.sample(paths, len(paths)))
        self._undo: list[Callable[[], object]] = []
        #: What an audit is to find by size and kind, and what only by content.
        self.plain: Found = set()
        self.by_content: Found = set()
        for n in range(times):
            self._hurt("MISSING", lambda path: path.unlink())
            self._hurt("CHANGED", lambda path: os.truncate(path, path.stat().st_size - 1))
            self._hurt("CHANGED", lambda path: path.write_bytes(path.read_bytes() + b"\0"))
            self._hurt("CHANGED", flip, by_content=True)
            self._hurt("NOT_REGULAR", replace_by_link)
            self._hurt("NOT_REGULAR", replace_by_directory)
            self._add(f"2026-11-01/untracked_{n}.fits")
            self._add(f"brought/{n}/untracked.fits")
            self._copy_row(f"elsewhere/{n}")
            self._copy_row("./{relpath}")
            self._copy_row("{relpath}/.")

    @property
    def count(self) -> int:
        return len(self.plain) + len(self.by_content)

    def _hurt(self, kind: str, how: Callable[[Path], object], by_content: bool = False) -> None:
        name = next(self._free)
        path = self.root / name
        content = path.read_bytes()
        how(path)
        (self.by_content if by_content else self.plain).add((kind, name))

        def undo() -> None:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            path.unlink(missing_ok=True)
            path.write_bytes(content)

        self._undo.append(undo)

    def _add(self, name: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"from somewhere")
        self.plain.add(("UNTRACKED", name))
        self._undo.append(path.unlink)

    def _copy_row(self, place: str) -> None:
        relpath, _, filename = next(self._free).rpartition("/")
        place = place.format(relpath=relpath)
        self.product.rows(
            "INSERT INTO buffer_file (storage_id, relpath, filename, checksum, checksum_algorithm,"
            " size_bytes, added_on, stored_on)"
            " SELECT storage_id, %s, filename, checksum, checksum_algorithm, size_bytes,"
            " CURRENT_TIMESTAMP, CURRENT_TIMESTAMP FROM buffer_file"
            " WHERE relpath = %s AND filename = %s",
            place,
            relpath,
            filename,
        )
        self.plain.add(("DUPLICATE", f"{place}/{filename}"))

        def undo() -> None:
            where = "relpath = %s AND filename = %s"
            self.product.rows(
                "DELETE FROM buffer_suspicion WHERE file_id IN"
                f" (SELECT id FROM buffer_file WHERE {where})",
                place,
                filename,
            )
            self.product.rows(f"DELETE FROM buffer_file WHERE {where}", place, filename)

        self._undo.append(undo)

    def undo(self) -> None:
        for step in self._undo:
            step()


def flip(path: Path) -> None:
    """Turn one bit; size and times stay."""
    state = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1 << random.randrange(8)
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@sqlite_first
@pytest.mark.parametrize(
    ("count", "times"),
    [
        (200, 1),
        pytest.param(4000, 20, marks=[pytest.mark.full, pytest.mark.timeout(1800)]),
    ],
)
def test_each_kind_and_nothing_else(product: Product, tally: Tally, count: int, times: int) -> None:
    paths = fill(product, count)
    assert audit(product, "--checksums") == set()
    damage = Damage(product, paths, times)
    everything = damage.plain | damage.by_content
    try:
        assert audit(product) == damage.plain
        assert audit(product, "--checksums", "--max-rate", "1000") == everything
        # What the content showed is marked, and so looked for again by every audit.
        seen: Found = set()
        for part in (1, 2):
            found = audit(product, "--subset", f"{part}/2", "--no-mark")
            assert not found & seen
            seen |= found
        assert seen == everything
        marked = [one for one in everything if one[0] != "UNTRACKED"]
        standing = "SELECT count(*) FROM buffer_suspicion WHERE cleared_on IS NULL"
        assert product.value(standing) == len(marked)
        state = json.loads(product.admin("status", "--json").succeeded())
        assert sum(one["count"] for one in state["suspects"]) == len(marked)
    finally:
        damage.undo()
    began = time.monotonic()
    assert audit(product) == set()
    assert product.value(standing) == 0
    tally(
        "storage or rows changed by hand, found by audit",
        damage.count,
        time.monotonic() - began,
        "every one found, nothing else; heal: the next audit clears all marks",
    )


@pytest.mark.timeout(300)
def test_a_medium_that_fails(product_on_sqlite: Product, tally: Tally) -> None:
    """EIO when a file is read: it is UNREADABLE, not CHANGED, and the others are judged."""
    product = product_on_sqlite
    paths = fill(product, 20)
    bad = paths[7]
    trace = product.root / "trace"
    done = product.run(
        need("strace"), "-f", "-qq", "--seccomp-bpf", "-o", trace,
        "-e", "trace=pread64", "-e", "inject=pread64:error=EIO", "-P", product.storage / bad,
        sys.executable, "manage.py", "audit", "--json", "--checksums",
        DATABASE_URL=product.url,
    )  # fmt: skip
    found, _ = audited(done)
    assert found == {("UNREADABLE", bad)}
    injected = trace.read_text().count("(INJECTED)")
    # It is looked at twice before it is told.
    assert injected == 2
    assert audit(product) == set(), "it can be read again"
    tally("EIO in a stored file, during an audit", injected, note="never taken for changed")


@postgresql_first
@pytest.mark.timeout(900)
@pytest.mark.parametrize("audits", [2, pytest.param(20, marks=pytest.mark.full)])
def test_beside_a_finder_and_an_ingester(product: Product, tally: Tally, audits: int) -> None:
    """A take-in that is under way is no finding."""
    finder = product.start("runfinder", product.finder_yaml())
    ingester = product.start("runingester", product.ingester_yaml())
    until = threading.Event()

    def land() -> None:
        number = 0
        while not until.is_set():
            content = os.urandom(3000)
            product.land(f"2026-11-{number % 5 + 1:02d}/more_{number:05d}.fits", content)
            if number % 5 == 0:
                product.land(f"again/{number}/more_{number:05d}.fits", content)
            number += 1
            time.sleep(0.02)

    writer = threading.Thread(target=land)
    writer.start()
    try:
        product.wait(lambda: product.stored() > 50, "files are taken in")
        for number in range(audits):
            before = product.stored()
            options = ("--checksums",) if number % 2 else ()
            found, report = audited(run_audit(product, *options))
            assert found == set()
            assert report["rows"] >= before
            assert product.stored() > before, "nothing was taken in meanwhile"
    finally:
        until.set()
        writer.join()
    product.wait(
        lambda: not any(path.is_file() for path in product.buffer.rglob("*")),
        "all is taken in",
        300,
    )
    product.wait(lambda: product.final() == product.stored(), "all is ingested", 300)
    finder.stops()
    ingester.stops()
    product.check_at_rest()
    assert audit(product, "--checksums") == set()
    tally(
        "audits beside a finder and an ingester at work",
        audits,
        note="no finding among what is under way",
    )


def test_it_is_stopped(product_on_sqlite: Product) -> None:
    product = product_on_sqlite
    product.land("2026/large.fits", bytes(30_000_000))
    product.run("runfinder", product.finder_yaml(), "--once").succeeded()
    # It would take half a minute.
    command = product.start("audit", "--checksums", "--max-rate", "1", DATABASE_URL=product.url)
    product.wait(
        lambda: product.value("SELECT count(*) FROM buffer_component WHERE kind = 'audit'"),
        "it is at work",
    )
    time.sleep(1)
    done = command.stops()
    assert "nothing found" in done.out and "stopped before the end: at row 0 of 1" in done.out
    assert product.value("SELECT count(*) FROM buffer_suspicion") == 0
    product.check_at_rest()


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_files(product: Product, tally: Tally) -> None:
    """Memory does not grow with their number."""
    product.land("first.fits")
    product.run("runfinder", product.finder_yaml(), "--once").succeeded()
    peaks, rates = [], []
    made = 0
    for count in (1_000, 100_000):
        for number in range(made, count):
            path = product.storage / f"d{number // 1000}/f{number}"
            if number % 1000 == 0:
                path.parent.mkdir()
            path.write_bytes(bytes(1000))
        add_rows(product, made, count)
        made = count
        for options in ((), ("--checksums",)):
            began = time.monotonic()
            done = product.run(
                sys.executable, "-c", _MEASURED, sys.executable, "manage.py", "audit", "--json",
                *options, DATABASE_URL=product.url, within_s=900,
            )  # fmt: skip
            took = time.monotonic() - began
            found, report = audited(done)
            assert found == set() and report["rows"] == report["files"] == count + 1
            peaks.append(int(done.err.split()[-1]) / 1000)
            rates.append(count / took)
    assert max(peaks[2:]) < max(peaks[:2]) + 40
    kind = "PostgreSQL" if product.is_postgresql else "SQLite"
    tally(
        f"audit of 100,000 files ({kind})",
        0,
        note=f"{rates[2]:,.0f} files/s, with --checksums {rates[3]:,.0f} files/s; peak"
        f" {max(peaks[2:]):.0f} MB, with 1,000 files {max(peaks[:2]):.0f} MB",
    )


def add_rows(product: Product, begin: int, end: int) -> None:
    """Record files of 1000 zero bytes, as a finder does, by one statement."""
    numbers = (
        "SELECT generate_series(%s, %s) AS n"
        if product.is_postgresql
        else "WITH RECURSIVE c(n) AS (VALUES (%s) UNION ALL SELECT n + 1 FROM c WHERE n < %s)"
        " SELECT n FROM c"
    )
    product.rows(
        "INSERT INTO buffer_file (storage_id, relpath, filename, checksum, checksum_algorithm,"
        " size_bytes, added_on, seen_on, stored_on)"
        " SELECT s.id, 'd' || (n / 1000), 'f' || n, %s, 'blake3', 1000, s.created_on,"
        f" s.created_on, s.created_on FROM buffer_storage s, ({numbers}) AS numbers",
        blake3.blake3(bytes(1000)).hexdigest(),
        begin,
        end - 1,
    )
