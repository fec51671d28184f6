"""Logs are read part by part, and never past a line that is not finished."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffer.rsync_logs import RsyncLog
from buffer.rsync_reader import LogPart, read_log

PREFIX = b"2024/01/01 12:00:00 [123] "
NEW = b">f+++++++++ "


def make_log(root: Path, content: bytes, name: str = "20240101/rsync.log") -> RsyncLog:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return look(path)


def look(path: Path) -> RsyncLog:
    found = path.stat()
    return RsyncLog(path, path.name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def read_parts(log: RsyncLog) -> Iterator[LogPart]:
    """Read a log to its end."""
    part = read_log(log)
    yield part
    while part.more:
        part = read_log(log, part.end_offset, line=part.end_line)
        yield part


def names(part: LogPart) -> list[str]:
    return [entry.path for entry in part.entries]


def test_read_log(tmp_path: Path) -> None:
    log = make_log(
        tmp_path,
        PREFIX + b"building file list\n" + PREFIX + NEW + b"a\n" + NEW + b"/b\n\n" + NEW + b"c d\n",
    )
    part = read_log(log)
    assert [(entry.path, entry.line) for entry in part.entries] == [("a", 2), ("c d", 5)]
    assert [(bad.line, bad.text_escaped) for bad in part.bad_lines] == [(3, ">f+++++++++ /b")]
    assert (part.start_offset, part.end_offset, part.end_line) == (0, log.size, 5)
    assert (part.more, part.unfinished) == (False, 0)


def test_a_truncated_last_line_is_left_for_later(tmp_path: Path) -> None:
    log = make_log(tmp_path, NEW + b"a\n" + NEW + b"b.fi")
    part = read_log(log)
    assert names(part) == ["a"]
    assert (part.end_offset, part.unfinished) == (14, 16)
    with open(log.path, "ab") as file:
        file.write(b"ts\n" + NEW + b"c\n")
    # Nothing beyond what was found is read: it has not been quiet for long enough.
    assert names(read_log(log, part.end_offset)) == []
    part = read_log(look(log.path), part.end_offset)
    assert [(entry.path, entry.line) for entry in part.entries] == [("b.fits", 2), ("c", 3)]


def test_links_are_resolved_with_the_names_before_them(tmp_path: Path) -> None:
    log = make_log(tmp_path, NEW + b"x => z\n" + b"hf+++++++++ a => b => x => z\n")
    entry = read_log(log).entries[1]
    assert (entry.path, entry.linked_to) == ("a => b", "x => z")


def test_long_lines_are_refused_and_passed_over(tmp_path: Path) -> None:
    long = NEW + b"x" * 1_000_000
    log = make_log(tmp_path, long + b"\n" + b"y" * 300_000 + b"\n" + NEW + b"a\n" + long)
    part = read_log(log)
    assert names(part) == ["a"]
    assert [bad.line for bad in part.bad_lines] == [1]
    assert "65536 bytes" in part.bad_lines[0].reason
    assert part.unfinished == len(long)
    assert part.end_offset == log.size - len(long)


def test_a_big_log_is_read_in_parts(tmp_path: Path) -> None:
    count = 30_000
    content = b"".join(
        PREFIX + NEW + b"20240101/raw/exposure-%08d.fits\n" % i for i in range(count)
    )
    log = make_log(tmp_path, content)
    del content
    tracemalloc.start()
    try:
        total = last = 0
        for part in read_parts(log):
            total += len(part.entries)
            last = part.entries[-1].line if part.entries else last
        del part
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == last == count
    assert peak < 15e6


def test_a_replaced_log_is_not_mixed_up(tmp_path: Path) -> None:
    log = make_log(tmp_path, NEW + b"a\n")
    (tmp_path / "other").write_bytes(NEW + b"bbb\n" + NEW + b"c\n")
    (tmp_path / "other").replace(log.path)
    with pytest.raises(OSError, match="replaced"):
        read_log(log)
    # No line ends where the old one's did: from the start.
    part = read_log(look(log.path), 14)
    assert names(part) == ["bbb", "c"]
    assert part.start_offset == 0


def test_links_and_fifos_are_never_read(tmp_path: Path) -> None:
    secret = make_log(tmp_path, NEW + b"a\n", "secret")
    link = tmp_path / "rsync.log"
    os.symlink(secret.path, link)
    fifo = tmp_path / "rsync2.log"
    os.mkfifo(fifo)
    for path in (link, fifo):
        with pytest.raises(OSError):
            read_log(RsyncLog(path, path.name, secret.device, secret.inode, 14, 0))
