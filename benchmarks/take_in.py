"""Arrivals to be taken in, the finder that does it, and the ideal loop that does the bare work.

The finder is run in this process by `Finder.cycle`, which is what the worker of ``manage.py
runfinder`` runs: the command adds its start, and nothing for each file.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from blake3 import blake3
from psycopg2.extras import execute_values

from benchmarks.harness import Bench, timed
from buffer import storages
from buffer.batches import FILES
from buffer.finder import Finder
from buffer.finder_config import Finder as FinderSection
from buffer.hashing import BLOCK_BYTES
from buffer.models import File, Storage

PER_DIRECTORY: Final = 1000
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)

_COLUMNS: Final = (
    "storage_id, relpath, filename, checksum, checksum_algorithm, size_bytes, added_on, seen_on,"
    " source, source_identity"
)


def arrivals(root: Path, count: int, size: int) -> None:
    """Write files that differ from each other, in directories of `PER_DIRECTORY`, and sync them.

    What is measured is the take-in, not the writing back of what others have just written.
    """
    block = os.urandom(size)
    for number in range(count):
        if number % PER_DIRECTORY == 0:
            directory = root / f"2026-11-{number // PER_DIRECTORY:04d}"
            directory.mkdir()
        name = f"exposure_{next(_numbers):09d}.fits"
        (directory / name).write_bytes((name.encode() + block)[:size])
    os.sync()


class Ground:
    """A buffer and a storage area of their own for each turn.

    Parameters
    ----------
    bench : `Bench`
        Whose scratch directory is used.
    buffers : `pathlib.Path`, optional
        Where the buffers are made, if not there.
    """

    def __init__(self, bench: Bench, *, buffers: Path | None = None) -> None:
        self._bench, self._buffers = bench, buffers

    def begin(self) -> tuple[Path, Storage]:
        """Make an empty buffer and a storage area."""
        root = self._bench.directory("storage")
        source = self._bench.directory("buffer", below=self._buffers)
        return source, storages.register(root.name, root)

    def finder(self, source: Path, storage: Storage, **search: Any) -> Finder:
        """Make a finder as it would be configured."""
        section = {
            "source": str(source),
            "storage": storage.root,
            "actions": {"standard": "Move", "alternative": "Delete"},
            "search": {"method": "scan", "delay": 0, **search},
        }
        return Finder(FinderSection.model_validate(section), storage)

    def end(self, source: Path, storage: Storage, expected: int) -> None:
        """Check that everything was stored, and remove it."""
        stored = File.objects.stored().filter(storage=storage).count()
        there = sum(len(names) for _, _, names in os.walk(storage.root))
        left = sum(len(names) for _, _, names in os.walk(source))
        if (stored, there, left) != (expected, expected + 1, 0):  # the marker
            raise RuntimeError(f"{expected} files, but {stored} stored, {there} there, {left} left")
        self.remove(source, storage)

    @staticmethod
    def remove(source: Path, storage: Storage) -> None:
        """Remove both."""
        shutil.rmtree(source)
        shutil.rmtree(storage.root)


def ours(ground: Ground, fill: Callable[[Path], int]) -> float:
    """Take in what `fill` puts into a buffer; give files/s."""
    source, storage = ground.begin()
    count = fill(source)
    finder = ground.finder(source, storage)
    with timed() as seconds:
        while not finder.cycle(until=time.monotonic() + 3600, stop=lambda: False).quiet:
            pass
    ground.end(source, storage, count)
    return count / seconds()


def measure_reading(bench: Bench, ground: Ground, fill: Callable[[Path], int], size: int) -> None:
    """Take in files of a total size; measure how many bytes are read for each of theirs."""
    source, storage = ground.begin()
    count = fill(source)
    before = bytes_read()
    finder = ground.finder(source, storage)
    finder.cycle(until=time.monotonic() + 3600, stop=lambda: False)
    read = bytes_read() - before
    ground.end(source, storage, count)
    bench.measure(
        "bytes read by the finder for each byte of a file", [read / size], unit="", at_most=1.01
    )


def bytes_read() -> int:
    """Tell how many bytes this process has read by system calls, from memory or a medium."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def ideal(bench: Bench, ground: Ground, fill: Callable[[Path], int]) -> float:
    """Do the bare work of taking in, in straight code; give files/s."""
    source, storage = ground.begin()
    count = fill(source)
    with contextlib.closing(bench.connect()) as connection:
        rows = _SqliteRows(connection) if bench.database == "sqlite" else _PostgresRows(connection)
        with timed() as seconds:
            found = list(_walk(source))
            for start in range(0, len(found), FILES):
                _take_in(rows, source, storage, found[start : start + FILES])
    ground.end(source, storage, count)
    return count / seconds()


def _walk(source: Path) -> Iterator[tuple[str, str, os.stat_result]]:
    for directory in sorted(os.listdir(source)):
        with os.scandir(source / directory) as listing:
            for entry in listing:
                yield directory, entry.name, entry.stat(follow_symlinks=False)


def _take_in(
    rows: _Rows, source: Path, storage: Storage, batch: list[tuple[str, str, os.stat_result]]
) -> None:
    """One batch: read, hash, intent, link, one sync, stored, unlink."""
    now = datetime.now(UTC).isoformat(sep=" ")
    intents = []
    for directory, name, stat in batch:
        digest = blake3()
        descriptor = os.open(f"{source}/{directory}/{name}", os.O_RDONLY)
        for _ in range(0, stat.st_size, BLOCK_BYTES):
            digest.update(os.read(descriptor, min(BLOCK_BYTES, stat.st_size)))
        os.close(descriptor)
        identity = f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"
        intents.append(
            (storage.pk, directory, name, digest.hexdigest(), "blake3", stat.st_size, now, now,
             str(source), identity)
        )  # fmt: skip
    first, last = rows.intend(intents)
    for directory in {directory for directory, _, _ in batch}:
        os.makedirs(f"{storage.root}/{directory}", exist_ok=True)
    for directory, name, _ in batch:
        os.link(f"{source}/{directory}/{name}", f"{storage.root}/{directory}/{name}")
    top = os.open(storage.root, os.O_RDONLY)
    if _libc.syncfs(top):
        raise OSError(ctypes.get_errno(), "syncfs")
    os.close(top)
    rows.stored(first, last)
    for directory, name, _ in batch:
        os.unlink(f"{source}/{directory}/{name}")


class _Rows:
    """The two statements of a batch, in batched raw SQL."""

    def __init__(self, connection: Any) -> None:
        self._cursor = connection.cursor()

    def intend(self, rows: Sequence[tuple[object, ...]]) -> tuple[int, int]:
        """Insert intents; give the first and the last id."""
        raise NotImplementedError

    def stored(self, first: int, last: int) -> None:
        """Mark them as stored."""
        raise NotImplementedError


class _SqliteRows(_Rows):
    def intend(self, rows: Sequence[tuple[object, ...]]) -> tuple[int, int]:
        marks = ", ".join("?" * len(rows[0]))
        self._cursor.execute("BEGIN IMMEDIATE")
        self._cursor.executemany(f"INSERT INTO buffer_file ({_COLUMNS}) VALUES ({marks})", rows)
        (last,) = self._cursor.execute("SELECT last_insert_rowid()").fetchone()
        self._cursor.execute("COMMIT")
        return last - len(rows) + 1, last

    def stored(self, first: int, last: int) -> None:
        self._cursor.execute(
            "UPDATE buffer_file SET stored_on = ?, source = NULL, source_identity = NULL"
            " WHERE id BETWEEN ? AND ?",
            (datetime.now(UTC).isoformat(sep=" "), first, last),
        )


class _PostgresRows(_Rows):
    def intend(self, rows: Sequence[tuple[object, ...]]) -> tuple[int, int]:
        ids = execute_values(
            self._cursor,
            f"INSERT INTO buffer_file ({_COLUMNS}) VALUES %s RETURNING id",
            rows,
            page_size=len(rows),
            fetch=True,
        )
        return ids[0][0], ids[-1][0]

    def stored(self, first: int, last: int) -> None:
        self._cursor.execute(
            "UPDATE buffer_file SET stored_on = now(), source = NULL, source_identity = NULL"
            " WHERE id BETWEEN %s AND %s",
            (first, last),
        )
