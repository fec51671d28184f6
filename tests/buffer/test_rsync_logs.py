from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from buffer import rsync_reader
from buffer.names import why_bad
from buffer.rsync_lines import BadLine, LogEntry, parse_line
from buffer.rsync_logs import RsyncLog, done_offset, find_logs, is_done, mark_done
from buffer.rsync_reader import LogPart, read_log, read_parts
from tests.conftest import unavailable

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


# Lines


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


# Reading


def make_log(root: Path, content: bytes, name: str = "20240101/rsync.log") -> RsyncLog:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return look(path)


def look(path: Path) -> RsyncLog:
    found = path.stat()
    return RsyncLog(path, path.name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


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


# Finding

NOW = datetime(2024, 3, 1, 0, 30, tzinfo=UTC)


def put_log(root: Path, name: str, age: float = 3600) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(NEW + b"a\n")
    os.utime(path, (NOW.timestamp() - age,) * 2)


def found_names(root: Path, **options: object) -> list[str]:
    given_options = {"date": None, "past_days": 1, "future_days": 1, "delay": 60, "now": NOW}
    return [log.name for log in find_logs(root, **{**given_options, **options})]  # type: ignore[arg-type]


def test_logs_of_the_days_around_the_date(tmp_path: Path) -> None:
    for day in ("20240227", "20240228", "20240229", "20240301", "20240302", "20240303"):
        put_log(tmp_path, f"{day}/rsync.log")
    assert found_names(tmp_path) == [
        "20240229/rsync.log",
        "20240301/rsync.log",
        "20240302/rsync.log",
    ]
    assert found_names(tmp_path, past_days=0, future_days=0) == ["20240301/rsync.log"]
    assert found_names(tmp_path, date=date(2024, 2, 28), past_days=1, future_days=0) == [
        "20240227/rsync.log",
        "20240228/rsync.log",
    ]
    assert len(found_names(tmp_path, past_days=10_000, future_days=10_000)) == 6
    assert found_names(tmp_path, date=date.max, past_days=0) == []


def test_today_is_the_utc_day_of_each_call(tmp_path: Path) -> None:
    put_log(tmp_path, "20240301/rsync.log")
    options = {"past_days": 0, "future_days": 0}
    assert found_names(tmp_path, now=NOW, **options) == ["20240301/rsync.log"]
    assert found_names(tmp_path, now=NOW + timedelta(days=1), **options) == []
    # The day before in Chile is still today in UTC.
    chile = NOW.astimezone(timezone(timedelta(hours=-3)))
    assert chile.day == 29
    assert found_names(tmp_path, now=chile, **options) == ["20240301/rsync.log"]


def test_only_logs_and_only_quiet_ones(tmp_path: Path) -> None:
    for name in ["rsync.log", "rsync-12.log", "sub/rsync_b.log"]:
        put_log(tmp_path, f"20240301/{name}")
    for name in ["rsync.log.done", "rsync.log.done.tmp", "other.log", "rsync.txt", ".rsync.log"]:
        put_log(tmp_path, f"20240301/{name}")
    put_log(tmp_path, "20240301/rsync-busy.log", age=59)
    put_log(tmp_path, "20240301/rsync-quiet.log", age=60)
    assert found_names(tmp_path) == [
        "20240301/rsync-12.log",
        "20240301/rsync-quiet.log",
        "20240301/rsync.log",
        "20240301/sub/rsync_b.log",
    ]


def test_what_is_no_log_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_log(tmp_path, "elsewhere/rsync.log")
    put_log(tmp_path, "20240301/rsync.log")
    os.mkfifo(tmp_path / "20240301" / "rsync-fifo.log")
    os.symlink(tmp_path / "elsewhere/rsync.log", tmp_path / "20240301" / "rsync-link.log")
    os.symlink("elsewhere", tmp_path / "20240302")
    (tmp_path / "20240229").write_text("")
    told: list[str] = []
    assert found_names(tmp_path, onerror=lambda path, error: told.append(path)) == [
        "20240301/rsync.log"
    ]
    assert told == [
        "20240229",
        "20240301/rsync-fifo.log",
        "20240301/rsync-link.log",
        "20240302",
    ]
    assert found_names(tmp_path / "gone") == []
    assert "No such file" in caplog.text


# Done


def test_done_marker(tmp_path: Path) -> None:
    log = make_log(tmp_path, NEW + b"a\n")
    assert not is_done(log)
    mark_done(log, log.size)
    assert log.marker.read_text() == "14\n"
    assert is_done(log)
    with open(log.path, "ab") as file:
        file.write(NEW + b"b\n")
    log = look(log.path)
    assert not is_done(log)
    part = read_log(log, done_offset(log))
    assert [(entry.path, entry.line) for entry in part.entries] == [("b", 2)]
    mark_done(log, part.end_offset)
    assert is_done(log)
    assert sorted(path.name for path in log.path.parent.iterdir()) == [
        "rsync.log",
        "rsync.log.done",
    ]


def test_a_shorter_log_of_the_same_name_is_another_one(tmp_path: Path) -> None:
    log = make_log(tmp_path, NEW + b"a\n" + NEW + b"b\n")
    mark_done(log, log.size)
    log = make_log(tmp_path, NEW + b"c\n")
    assert done_offset(log) == 0
    assert names(read_log(log, done_offset(log))) == ["c"]


def test_the_older_systems_empty_marker(tmp_path: Path) -> None:
    log = make_log(tmp_path, NEW + b"a\n")
    log.marker.touch()
    assert is_done(log)
    later = time.time() + 10
    os.utime(log.path, (later, later))
    log = look(log.path)
    assert not is_done(log)
    assert done_offset(log) == 0
    mark_done(log, log.size)
    assert is_done(log)


@pytest.mark.parametrize("content", ["yes", "-1", "1.5", "٣", "9" * 40, "1\n2\n"])
def test_a_damaged_marker_means_from_the_start(tmp_path: Path, content: str) -> None:
    log = make_log(tmp_path, NEW + b"a\n")
    log.marker.write_text(content)
    assert done_offset(log) == 0


def test_an_empty_log_needs_no_marker(tmp_path: Path) -> None:
    assert is_done(make_log(tmp_path, b""))


def test_a_negative_offset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="offset"):
        mark_done(make_log(tmp_path, b""), -1)


def test_a_marker_is_never_written_through_a_link(tmp_path: Path) -> None:
    log = make_log(tmp_path, NEW + b"a\n")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, f"{log.marker}.tmp")
    with pytest.raises(OSError):
        mark_done(log, log.size)
    os.unlink(f"{log.marker}.tmp")
    os.symlink(victim, log.marker)
    with pytest.raises(OSError):
        is_done(log)
    mark_done(log, log.size)
    assert is_done(log)
    assert victim.read_text() == "precious"


# Against rsync itself

NAMES = [
    "plain.fits",
    "with space.fits",
    " lead",
    "trail ",
    "größe 望遠鏡.fits",
    "x => y",
    "x -> y",
    "back\\slash",
    "bs\\#101",
    "bs\\#134#101",
    "bs\\#12",
    "sub dir/k.fits",
    "sub dir/größe/k.fits",
    "quote'\".fits",
    "[1] >f+++++++++ z",
    "x" * 255,
]
BAD_NAMES = [b"new\nline.fits", b"latin\xe9.fits", b"tab\t.fits", b"bad\xff/x.fits"]

FORMATS = [[], ["--log-file-format=%i %n%L"]]
ROUTES = ["local", "push", "pull", "push, other side's log", "pull, other side's log"]


@pytest.fixture(scope="session")
def rsync() -> str:
    """The rsync that is installed, or can be."""
    if shutil.which("rsync") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "rsync"]):
            subprocess.run(command, capture_output=True, check=False)
    if (found := shutil.which("rsync")) is None:
        unavailable("rsync is not installed")
    assert found is not None
    return found


@pytest.fixture
def areas(tmp_path: Path, rsync: str) -> tuple[Path, Path]:
    """A buffer with files of all kinds of names, and an empty storage area."""
    source, storage = tmp_path / "source", tmp_path / "storage"
    storage.mkdir()
    for name in [*map(os.fsencode, NAMES), *BAD_NAMES]:
        write(source, name, "x")
    os.symlink("plain.fits", source / "link")
    os.mkfifo(source / "fifo")
    return source, storage


def write(root: Path, name: bytes, content: str) -> None:
    path = os.path.join(os.fsencode(root), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(content)


def shell(tmp_path: Path) -> Path:
    """Make something that rsync takes for ssh, so that there are a sender and a receiver."""
    path = tmp_path / "shell"
    path.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    path.chmod(0o755)
    return path


def snapshot(root: Path) -> dict[str, tuple[int, int, int]]:
    """Identify all regular files; one that rsync replaces gets another inode."""
    found = {}
    for directory, _, filenames in os.walk(root):
        for filename in filenames:
            path = os.path.join(directory, filename)
            status = os.lstat(path)
            if os.path.isfile(path) and not os.path.islink(path):
                found[os.path.relpath(path, root)] = (
                    status.st_ino,
                    status.st_size,
                    status.st_mtime_ns,
                )
    return found


def is_good(path: str) -> bool:
    relpath, _, filename = path.rpartition("/")
    return why_bad(relpath, filename) is None


def run(command: list[str | Path], lang: str = "C.UTF-8") -> bytes:
    environment = {**os.environ, "LC_ALL": lang}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def transfer(
    route: str, source: Path, storage: Path, log: Path, options: list[str], lang: str = "C.UTF-8"
) -> None:
    logging = [f"--log-file={log}"]
    logging += [o for o in options if o.startswith("--log-file-format")]
    options = [option for option in options if option not in logging]
    if "other side" in route:
        # What goes through the shell in between loses its spaces.
        logging = [f"--remote-option={o}" for o in logging if " " not in o]
    command: list[str | Path] = ["rsync", "-aH", *options, *logging]
    if route == "local":
        run([*command, f"{source}/", f"{storage}/"], lang)
        return
    command += ["-e", str(shell(log.parent))]
    if route.startswith("push"):
        run([*command, f"{source}/", f"host:{storage}/"], lang)
    else:
        run([*command, f"host:{source}/", f"{storage}/"], lang)


def check_log(
    log: Path,
    before: dict[str, tuple[int, int, int]],
    after: dict[str, tuple[int, int, int]],
    check_updated: bool = True,
) -> LogPart:
    """Compare what a log says with what has truly changed."""
    part = read_log(look(log))
    transferred = {path for path in after if after[path] != before.get(path)}
    told = {entry.path: entry for entry in part.entries}
    assert set(told) == {path for path in transferred if is_good(path)}
    for path, entry in told.items():
        assert not check_updated or entry.updated == (path in before), path
    assert len(part.bad_lines) == sum(not is_good(path) for path in transferred)
    assert part.unfinished == 0
    return part


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("log_format", FORMATS, ids=["default", "explicit"])
def test_rsync(areas: tuple[Path, Path], tmp_path: Path, route: str, log_format: list[str]) -> None:
    source, storage = areas
    log = tmp_path / "rsync.log"
    options = ["--delete", *log_format]

    transfer(route, source, storage, log, options)
    first = snapshot(storage)
    assert len(first) == len(NAMES) + len(BAD_NAMES)
    check_log(log, {}, first)

    # Nothing new: nothing named.
    log.unlink()
    transfer(route, source, storage, log, options)
    check_log(log, first, snapshot(storage))

    # Updated, new, deleted, only touched, and hard links.
    for name in ["plain.fits", "sub dir/k.fits", "größe 望遠鏡.fits", "x => y"]:
        write(source, os.fsencode(name), "longer")
    write(source, "sub dir/new ö.fits".encode(), "n")
    os.unlink(source / "with space.fits")
    os.chmod(source / "back\\slash", 0o600)
    os.link(source / " lead", source / "hard link.fits")
    os.link(source / "x -> y", source / "sub dir" / "hard -> link")
    log.unlink()
    transfer(route, source, storage, log, options)
    second = snapshot(storage)
    assert "with space.fits" not in second
    part = check_log(log, first, second)
    links = {entry.path: entry.linked_to for entry in part.entries if entry.linked_to}
    assert links == {"hard link.fits": " lead", "sub dir/hard -> link": "x -> y"}


@pytest.mark.parametrize("lang", ["C", "C.UTF-8"])
@pytest.mark.parametrize("eight_bit", [[], ["--8-bit-output"]], ids=["7-bit", "8-bit"])
@pytest.mark.parametrize("prefix", ["", "%t [%p] "], ids=["bare", "prefixed"])
def test_rsync_output_as_log(
    areas: tuple[Path, Path], tmp_path: Path, lang: str, eight_bit: list[str], prefix: str
) -> None:
    source, storage = areas
    out = f"--out-format={prefix}%i %n%L"
    printed = run(["rsync", "-aHvv", *eight_bit, out, f"{source}/", f"{storage}/"], lang)
    if lang == "C" and not eight_bit:
        assert rb"\#303" in printed
        assert not any(byte > 127 for byte in printed)
    log = tmp_path / "rsync.log"
    log.write_bytes(printed)
    check_log(log, {}, snapshot(storage))


@pytest.mark.parametrize("route", ROUTES)
def test_rsync_log_in_the_c_locale(areas: tuple[Path, Path], tmp_path: Path, route: str) -> None:
    source, storage = areas
    log = tmp_path / "rsync.log"
    transfer(route, source, storage, log, [], lang="C")
    check_log(log, {}, snapshot(storage))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("option", ["--partial-dir=.rsync-partial", "--delay-updates", "--inplace"])
def test_rsync_with_other_ways_of_writing(
    areas: tuple[Path, Path], tmp_path: Path, route: str, option: str
) -> None:
    source, storage = areas
    log = tmp_path / "rsync.log"
    write(source, b"growing.fits", "1")
    transfer(route, source, storage, log, [option])
    first = snapshot(storage)
    check_log(log, {}, first)
    log.unlink()
    write(source, b"growing.fits", "12")
    transfer(route, source, storage, log, [option])
    part = check_log(log, first, snapshot(storage))
    assert [(entry.path, entry.updated) for entry in part.entries] == [("growing.fits", True)]


def test_rsync_with_relative_paths(areas: tuple[Path, Path], tmp_path: Path) -> None:
    source, storage = areas
    log = tmp_path / "rsync.log"
    command = ["rsync", "-aH", "--relative", f"--log-file={log}"]
    run([*command, f"{source.parent}/./source", storage])
    part = check_log(log, {}, snapshot(storage))
    assert "source/plain.fits" in names(part)
    # Without the dot rsync logs absolute paths, though it writes below the storage.
    log.unlink()
    run([*command, source, storage])
    part = read_log(look(log))
    assert part.entries == []
    assert len(part.bad_lines) == len(NAMES) + len(BAD_NAMES)
    assert all("absolute" in bad.reason for bad in part.bad_lines)


def test_rsync_and_a_name_like_an_item(areas: tuple[Path, Path], tmp_path: Path) -> None:
    source, storage = areas
    log = tmp_path / "rsync.log"
    transfer("local", source, storage, log, [])
    before = snapshot(storage)
    log.unlink()
    # "NAME is uptodate"
    transfer("local", source, storage, log, ["-vv"])
    assert b"] [1] >f+++++++++ z is uptodate" in log.read_bytes()
    check_log(log, before, snapshot(storage))


@pytest.mark.parametrize("option", ["--link-dest", "--copy-dest"])
@pytest.mark.parametrize("route", ["local", "push", "pull"])
def test_rsync_that_takes_files_from_another_tree(
    areas: tuple[Path, Path], tmp_path: Path, route: str, option: str
) -> None:
    source, storage = areas
    os.unlink(source / "x => y")
    run(["cp", "-a", source, tmp_path / "old"])
    write(source, b"new.fits", "x")
    log = tmp_path / "rsync.log"
    transfer(route, source, storage, log, ["-ii", f"{option}={tmp_path / 'old'}"])
    part = check_log(log, {}, snapshot(storage), check_updated=False)
    assert [entry.path for entry in part.entries if not entry.updated] == ["new.fits"]
    assert {entry.linked_to for entry in part.entries} == {None}


def test_rsync_that_fails_half_way(areas: tuple[Path, Path], tmp_path: Path) -> None:
    source, storage = areas
    log = tmp_path / "rsync.log"
    (storage / "plain.fits" / "in the way").mkdir(parents=True)
    command = ["rsync", "-a", f"--log-file={log}", f"{source}/", str(tmp_path / "gone") + "/"]
    done = subprocess.run([*command, f"{storage}/"], capture_output=True, check=False)
    assert done.returncode == 23
    part = read_log(look(log))
    # A line is no proof: what is named may not be there.
    arrived = {path for path in snapshot(storage) if is_good(path)}
    assert "plain.fits" not in arrived
    assert arrived <= set(names(part))


@pytest.fixture
def daemon(areas: tuple[Path, Path], tmp_path: Path) -> Iterator[tuple[int, Path, Path]]:
    """An rsync daemon with two modules: one logs in `%i %n%L`, one in rsync's default."""
    _, storage = areas
    log = tmp_path / "daemon.log"
    other = tmp_path / "default.log"
    config = tmp_path / "rsyncd.conf"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = f"path = {storage}\nread only = false\nuse chroot = false\ntransfer logging = true\n"
    if os.geteuid() == 0:
        common += "uid = 0\ngid = 0\n"
    config.write_text(
        f"[data]\n{common}log file = {log}\nlog format = %i %n%L\n"
        f"[default]\n{common}log file = {other}\n"
    )
    process = subprocess.Popen(
        [
            *("rsync", "--daemon", "--no-detach"),
            *(f"--config={config}", "--address=127.0.0.1", f"--port={port}"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            unavailable("the rsync daemon does not start here")
        yield port, log, other
    finally:
        process.kill()
        process.wait()


def wait_for_end(log: Path) -> None:
    """The daemon's process writes its totals after the client has gone."""
    for _ in range(100):
        if log.exists() and b"total size" in log.read_bytes():
            return
        time.sleep(0.05)
    raise AssertionError(f"{log} has no end")


def test_rsync_daemon(
    areas: tuple[Path, Path], tmp_path: Path, daemon: tuple[int, Path, Path]
) -> None:
    source, storage = areas
    port, log, other = daemon
    mine = tmp_path / "mine.log"
    command: list[str | Path] = ["rsync", "-aH", f"--log-file={mine}", f"{source}/"]
    run([*command, f"rsync://127.0.0.1:{port}/data/"])
    wait_for_end(log)
    first = snapshot(storage)
    check_log(mine, {}, first)
    check_log(log, {}, first)

    # The default format can not be told apart safely: said, not guessed.
    write(source, b"plain.fits", "longer")
    run([*command, f"rsync://127.0.0.1:{port}/default/"])
    wait_for_end(other)
    part = read_log(look(other))
    assert part.entries == []
    assert len(part.bad_lines) == 1
    assert "log format = %i %n%L" in part.bad_lines[0].reason


FILE_NAMES = st.lists(
    st.one_of(
        st.sampled_from([b"\\", b"#", b"\\#", b"101", b" ", b" => ", b" -> ", b"\n", b"\x7f"]),
        st.sampled_from([b"\xc3\xa9", b"\xff", b"a", b"Z9", b"..", b"*deleting", b"\t", b"\r"]),
        st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=6,
).map(b"".join)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(FILE_NAMES, min_size=1, max_size=20, unique=True), st.sampled_from(["C", "C.UTF-8"])
)
def test_rsync_with_any_names(
    tmp_path: Path, rsync: str, file_names: list[bytes], lang: str
) -> None:
    source, storage, log = tmp_path / "source", tmp_path / "storage", tmp_path / "rsync.log"
    for path in (source, storage):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    log.unlink(missing_ok=True)
    for name in file_names:
        if b"/" not in name and b"\0" not in name and name not in (b".", b".."):
            write(source, name, "x")
    out = ["rsync", "-a", "--out-format=%i %n%L", f"--log-file={log}"]
    printed = run([*out, f"{source}/", f"{storage}/"], lang)
    after = snapshot(storage)
    assert set(after) == set(snapshot(source))
    check_log(log, {}, after)
    log.write_bytes(printed)
    check_log(log, {}, after)


def test_a_part_covers_at_most_max_lines(tmp_path: Path) -> None:
    log = make_log(tmp_path, (NEW + b"a\n") * (rsync_reader.MAX_LINES + 1))
    part = read_log(log)
    assert (part.end_line, part.more) == (rsync_reader.MAX_LINES, True)
