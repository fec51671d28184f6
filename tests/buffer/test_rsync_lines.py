"""Lines of rsync's logs: total, and never out of the root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from buffer.names import why_bad
from buffer.rsync_lines import BadLine, LogEntry, parse_line
from buffer.rsync_reader import read_log
from tests.buffer.test_rsync_reader import make_log

PREFIX = b"2024/01/01 12:00:00 [123] "
NEW = b">f+++++++++ "


def parse(body: bytes) -> LogEntry | BadLine | None:
    """Parse a line with and without date and process, which must make no difference."""
    bare, full = parse_line(body, 1), parse_line(PREFIX + body, 1)
    if isinstance(bare, BadLine):
        assert isinstance(full, BadLine)
        assert full.reason == bare.reason
    else:
        assert full == bare
    return bare


@pytest.mark.parametrize(
    ("body", "relpath", "filename", "updated"),
    [
        (b">f+++++++++ a.fits", "", "a.fits", False),
        (b"<f+++++++++ 20240101/raw/a.fits", "20240101/raw", "a.fits", False),
        (b"<f.st...... a.fits", "", "a.fits", True),
        (b">fcstpogbax a.fits", "", "a.fits", True),
        (b">f..T...... a.fits", "", "a.fits", True),
        (b">f????????? a.fits", "", "a.fits", True),
        (b"cf+++++++++ a.fits", "", "a.fits", False),
        (b"cf          a.fits", "", "a.fits", True),
        # rsync 2 had two letters less.
        (b">f+++++++ a b.fits", "", "a b.fits", False),
        (b">f.st.... a x .fits", "", "a x .fits", True),
        (b">f+++++++++ a b  c.fits", "", "a b  c.fits", False),
        (b">f+++++++++  lead", "", " lead", False),
        (b">f+++++++++ trail ", "", "trail ", False),
        (b">f+++++++++ x -> y", "", "x -> y", False),
        (b">f+++++++++ x => y", "", "x => y", False),
        (b">f+++++++++ gr\xc3\xb6\xc3\x9fe.fits", "", "größe.fits", False),
        (b">f+++++++++ gr\\#303\\#266\\#303\\#237e.fits", "", "größe.fits", False),
        (b">f+++++++++ bs\\x.fits", "", "bs\\x.fits", False),
        (b">f+++++++++ bs\\#134#101", "", "bs\\#101", False),
        (b">f+++++++++ bs\\#134#999", "", "bs\\#999", False),
        (b">f+++++++++ bs\\#12", "", "bs\\#12", False),
        (b">f+++++++++ bs\\#777", "", "bs\\#777", False),
        (b">f+++++++++ >f+++++++++ x", "", ">f+++++++++ x", False),
        (b">f+++++++++ *deleting   x", "", "*deleting   x", False),
    ],
)
def test_files(body: bytes, relpath: str, filename: str, updated: bool) -> None:
    assert parse(body) == LogEntry(relpath, filename, updated, None, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"building file list",
        b"receiving file list",
        b"sending incremental file list",
        b"created directory /data/storage",
        b"cd+++++++++ ./",
        b".d..t...... sub dir/",
        b"cd+++++++++ c/",
        b".f          a.fits",
        b".f...p..... a.fits",
        b"cL+++++++++ s -> ../t",
        b">L+++++++++ s -> t",
        b"hL+++++++++ s => t",
        b"cD+++++++++ device",
        b"cS+++++++++ fifo",
        b"*deleting   old.fits",
        b"deleting old.fits",
        b"sent 1,246 bytes  received 413 bytes  total size 26",
        b"total size is 26  speedup is 0.02 (DRY RUN)",
        b'rsync: [sender] link_stat "/x" failed: No such file or directory (2)',
        b"rsync error: some files could not be transferred (code 23) at main.c(1338)",
        b'file has vanished: "/data/a.fits"',
        b'skipping non-regular file "s"',
        b"a.fits",
        b"\xff\xfe\x00garbage",
    ],
)
def test_lines_that_name_no_arrival(body: bytes) -> None:
    assert parse(body) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b">f+++++++++ /etc/passwd", "absolute"),
        (b">f+++++++++ /passwd", "absolute"),
        (b">f+++++++++ \\#057passwd", "absolute"),
        (b">f+++++++++ ../a.fits", "'..'"),
        (b">f+++++++++ a/../../a.fits", "'..'"),
        (b">f+++++++++ a/\\#056./a.fits", "'..'"),
        (b">f+++++++++ ..", "'..'"),
        (b">f+++++++++ ./a.fits", "'.'"),
        (b">f+++++++++ a//b", "empty"),
        (b">f+++++++++ a/", "empty"),
        (b">f+++++++++ caf\xe9", "not UTF-8"),
        (b">f+++++++++ caf\\#351", "not UTF-8"),
        (b">f+++++++++ new\\#012line", "control character"),
        (b">f+++++++++ nul\\#000", "control character"),
        (b">f+++++++++ .incoming/a", "reserved"),
        (b">f+++++++++ " + b"x" * 256, "256 bytes"),
        (b"hf+++++++++ ../a => b", "'..'"),
        (b"hf+++++++++ /a => b", "absolute"),
        (b">f+++++++++", "log format"),
        (b">f+++++++++ ", "log format"),
        (b"<f++", "log format"),
        (b">fWHAT..... a.fits", "log format"),
        (b"recv host [::1] data () sub/a.fits 5", "log format = %i %n%L"),
    ],
)
def test_refused_lines(body: bytes, reason: str) -> None:
    bad = parse(body)
    assert isinstance(bad, BadLine)
    assert bad.line == 1
    assert reason in bad.reason
    assert bad.text_escaped.isprintable()


def test_the_text_of_a_refused_line_is_cut() -> None:
    bad = parse_line(NEW + b"x" * 100_000, 3)
    assert isinstance(bad, BadLine)
    assert bad.line == 3
    assert len(bad.text_escaped) < 600


@pytest.mark.parametrize(
    ("rest", "seen", "path", "linked_to", "others"),
    [
        (b"b => a", [], "b", "a", ()),
        (b"s/b => s/a", [], "s/b", "s/a", ()),
        (b"b", [], "b", None, ()),
        (b"b -> c => a", [], "b -> c", "a", ()),
        (b"b => ../a", [], "b", None, ()),
        (b"b => a\\#012", [], "b", None, ()),
        (b"x => y => a", ["a"], "x => y", "a", ("x", "x => y => a")),
        (b"x => y => a", ["y => a"], "x", "y => a", ("x => y", "x => y => a")),
        (b"x => y => a", [], "x", "y => a", ("x => y", "x => y => a")),
    ],
)
def test_hard_links(
    rest: bytes, seen: list[str], path: str, linked_to: str | None, others: tuple[str, ...]
) -> None:
    entry = parse_line(b"hf+++++++++ " + rest, 1, seen)
    assert isinstance(entry, LogEntry)
    assert (entry.path, entry.linked_to, entry.other_paths) == (path, linked_to, others)
    assert not entry.updated
    updated = parse_line(b"hf          " + rest, 1, seen)
    assert isinstance(updated, LogEntry)
    assert (updated.path, updated.linked_to, updated.updated) == (path, linked_to, True)


def test_a_link_that_is_not_new_may_have_no_target() -> None:
    # The name `b => a` with --link-dest, or `b` linked to `a` again.
    entry = parse_line(b"hf          b => a", 1)
    assert entry == LogEntry("", "b", True, "a", 1, ("b => a",))


def test_many_arrows_are_bounded() -> None:
    entry = parse_line(b"hf+++++++++ " + b" => ".join([b"x"] * 50), 1)
    assert isinstance(entry, LogEntry)
    assert len(entry.other_paths) < 10


HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(PREFIX, b"[1] ", NEW, b"<f.st...... ", b"hf+++++++++ ", b"cf          "),
                *(b">f+++++++ ", b"*deleting   ", b"..", b".", b"/", b" => ", b" -> ", b"\\#"),
                *(b"\\#134#", b"\\#056", b"\\#057", b"\\#012", b"\\#000", b"a", b" "),
                *(b".incoming", b"\xc3\xa9", b"\xff"),
            ]
        ),
        st.binary(max_size=5),
    ),
    max_size=12,
).map(b"".join)


def check_inside(entry: LogEntry) -> None:
    for path in [entry.path, *entry.other_paths, *([entry.linked_to] if entry.linked_to else [])]:
        assert os.path.normpath(os.path.join("/root", path)) == f"/root/{path}"
        relpath, _, filename = path.rpartition("/")
        assert why_bad(relpath, filename) is None
        assert os.fsencode(path).decode("utf-8") == path


@settings(max_examples=1000)
@given(HOSTILE)
@example(b"hf+++++++++ /a => ../b => c")
@example(b"hf+++++++++ .. => b")
def test_no_line_raises_or_leaves_the_root(raw: bytes) -> None:
    parsed = parse_line(raw, 1)
    if isinstance(parsed, LogEntry):
        check_inside(parsed)
    elif parsed is not None:
        assert parsed.text_escaped.isprintable()
        assert parsed.reason


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(HOSTILE, max_size=20).map(b"\n".join), st.integers(1, 5), st.integers(0, 100))
def test_no_log_raises_and_parts_join(
    tmp_path: Path, content: bytes, max_lines: int, offset: int
) -> None:
    log = make_log(tmp_path, content)
    whole = read_log(log)
    assert whole.end_offset + whole.unfinished == len(content)
    assert content[: whole.end_offset].count(b"\n") == whole.end_line
    parts = [read_log(log, max_lines=max_lines)]
    while parts[-1].more:
        parts.append(read_log(log, parts[-1].end_offset, max_lines=max_lines))
    # What a part does not know of the parts before it makes a difference to ambiguous links only.
    assert [e.line for p in parts for e in p.entries] == [e.line for e in whole.entries]
    assert [b for p in parts for b in p.bad_lines] == whole.bad_lines
    assert parts[-1].end_offset == whole.end_offset
    for entry in whole.entries:
        check_inside(entry)
    read_log(log, offset)
