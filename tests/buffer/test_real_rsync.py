"""Real rsync is the reference: what it transferred is what its logs are read as."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffer import rsync_reader
from buffer.names import why_bad
from buffer.rsync_reader import LogPart, read_log
from tests.buffer.test_rsync_reader import look, make_log, names
from tests.conftest import unavailable
from tests.tools import need

NEW = b">f+++++++++ "


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
    return need("rsync")


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
