from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffer import discovery
from buffer.discovery import Arrival, scan
from tests.tools import need


def make(path: Path, content: str = "x", mtime: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path


def never(path: str, error: OSError) -> None:
    raise AssertionError(f"{path}: {error}")


def paths(root: Path) -> list[str]:
    return [arrival.path for arrival in scan(root, onerror=never)]


def test_arrivals_have_path_stat_and_identity(tmp_path: Path) -> None:
    make(tmp_path / "a.fits", "1234")
    make(tmp_path / "20240101" / "raw" / "b c.fits")
    found = {arrival.path: arrival for arrival in scan(tmp_path, onerror=never)}
    assert set(found) == {"a.fits", "20240101/raw/b c.fits"}
    top, below = found["a.fits"], found["20240101/raw/b c.fits"]
    assert (top.relpath, top.filename) == ("", "a.fits")
    assert (below.relpath, below.filename) == ("20240101/raw", "b c.fits")
    st = os.lstat(tmp_path / "a.fits")
    assert top.identity == f"{st.st_dev}:{st.st_ino}:4:{st.st_mtime_ns}"
    assert top.is_regular


def test_temporary_and_reserved_names_are_left_out(tmp_path: Path) -> None:
    for name in [
        ".a.fits.Xy12zQ",
        "a.part",
        "sub/a.partial",
        "a.tmp",
        ".~tmp~/a.fits",
        "sub/.~tmp~/deep/a.fits",
        "sub/.rsync-partial/a.fits",
        ".incoming/a.fits",
        ".endpoint-storage",
    ]:
        make(tmp_path / name)
    for name in ["sub/.incoming/kept", "sub/.endpoint-storage", ".hidden", "c.fits"]:
        make(tmp_path / name)
    assert sorted(paths(tmp_path)) == [
        ".hidden",
        "c.fits",
        "sub/.endpoint-storage",
        "sub/.incoming/kept",
    ]


def test_links_fifos_and_sockets_are_yielded_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    make(outside / "secret.fits")
    root = tmp_path / "root"
    root.mkdir()
    os.symlink(outside, root / "dir-link")
    os.symlink(outside / "secret.fits", root / "file-link")
    os.symlink("nowhere", root / "broken-link")
    os.symlink(".", root / "loop")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
        found = list(scan(root, onerror=never))
    assert sorted(a.path for a in found) == [
        "broken-link",
        "dir-link",
        "fifo",
        "file-link",
        "loop",
        "socket",
    ]
    assert not any(arrival.is_regular for arrival in found)


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    make(tmp_path / "real" / "a.fits")
    os.symlink("real", tmp_path / "link")
    assert paths(tmp_path / "link") == ["a.fits"]


def test_strange_names_are_yielded_as_they_are(tmp_path: Path) -> None:
    names = ["new\nline", "quo'te\"", "bidi\u202e", "größe", "x" * 255, "back\\slash", "\x01"]
    for name in names:
        make(tmp_path / name)
    with open(os.fsencode(tmp_path) + b"/caf\xe9", "w"):
        pass
    assert sorted(paths(tmp_path)) == sorted([*names, "caf\udce9"])


def test_skip_is_asked_for_each_file(tmp_path: Path) -> None:
    make(tmp_path / "a.fits")
    make(tmp_path / "sub" / "b.fits")
    asked = []

    def skip(relpath: str, filename: str) -> bool:
        asked.append((relpath, filename))
        return filename == "a.fits"

    assert [a.path for a in scan(tmp_path, skip=skip, onerror=never)] == ["sub/b.fits"]
    assert asked == [("", "a.fits"), ("sub", "b.fits")]


def test_known_arrivals_are_passed_over(tmp_path: Path) -> None:
    for name in ("a", "sub/b", "sub/c"):
        make(tmp_path / name)
    asked = []

    def known(path: str, stat: os.stat_result) -> bool:
        asked.append(path)
        return stat.st_ino == (tmp_path / "sub/b").stat().st_ino

    assert [a.path for a in scan(tmp_path, known=known, onerror=never)] == ["a", "sub/c"]
    assert sorted(asked) == ["a", "sub/b", "sub/c"]


def test_oldest_first_and_sidecars_before_their_files(tmp_path: Path) -> None:
    make(tmp_path / "b.fits", mtime=100)
    make(tmp_path / "b.json", mtime=900)
    make(tmp_path / "c.fits.fz", mtime=300)
    make(tmp_path / "c.json", mtime=200)
    make(tmp_path / "d.fits", mtime=50)
    make(tmp_path / "e.v1.fits", mtime=400)
    make(tmp_path / "e.v1.json", mtime=500)
    make(tmp_path / "e.fits", mtime=450)
    make(tmp_path / "b2.json", mtime=60)
    assert paths(tmp_path) == [
        "d.fits",
        "b2.json",
        "b.json",
        "b.fits",
        "c.json",
        "c.fits.fz",
        "e.v1.json",
        "e.v1.fits",
        "e.fits",
    ]


def test_every_sidecar_comes_first_in_any_arrival_order(tmp_path: Path) -> None:
    rng = random.Random(1)
    names = [f"{stem}{ending}" for stem in range(200) for ending in (".fits", ".json", ".txt")]
    rng.shuffle(names)
    for name in names:
        make(tmp_path / name, mtime=rng.randrange(1000))
    found = paths(tmp_path)
    assert sorted(found) == sorted(names)
    for stem in range(200):
        assert found.index(f"{stem}.json") < found.index(f"{stem}.fits")


def test_a_directory_larger_than_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "CHUNK_SIZE", 7)
    names = {f"{number}.fits" for number in range(50)}
    for name in names:
        make(tmp_path / name)
    found = paths(tmp_path)
    assert len(found) == 50
    assert set(found) == names


def test_a_missing_root_is_reported(tmp_path: Path) -> None:
    told: list[tuple[str, type[OSError]]] = []
    found = list(scan(tmp_path / "gone", onerror=lambda p, e: told.append((p, type(e)))))
    assert found == []
    assert told == [("", FileNotFoundError)]


def test_vanished_and_swapped_directories_do_not_stop_the_others(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    make(outside / "secret.fits")
    root = tmp_path / "root"
    for name in ["a", "b/deep", "c"]:
        make(root / name / "x.fits")
    make(root / "first.fits")
    told: list[str] = []
    walk = scan(root, onerror=lambda path, error: told.append(path))
    assert next(walk).path == "first.fits"
    # The directories are known now and not yet read.
    shutil.rmtree(root / "a")
    shutil.rmtree(root / "b")
    os.symlink(outside, root / "b")
    assert [arrival.path for arrival in walk] == ["c/x.fits"]
    assert told == ["a", "b"]


def test_a_parent_swapped_for_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    make(outside / "deep" / "secret.fits")
    root = tmp_path / "root"
    make(root / "a" / "first.fits")
    make(root / "a" / "deep" / "x.fits")
    told: list[str] = []
    walk = scan(root, onerror=lambda path, error: told.append(path))
    assert next(walk).path == "a/first.fits"
    (root / "a").rename(tmp_path / "elsewhere")
    os.symlink(outside, root / "a")
    assert list(walk) == []
    assert told == ["a/deep"]


UNREADABLE = """
import os, sys
from pathlib import Path
from buffer.discovery import scan
# Relative to here, since others may not pass through what pytest made above it.
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for arrival in scan(Path("."), onerror=lambda p, e: print("error", p, type(e).__name__)):
    print("found", arrival.path)
"""


def test_an_unreadable_directory_does_not_stop_the_others(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make(root / "a" / "hidden.fits")
    make(root / "b" / "x.fits")
    make(root / "c" / "listed-only.fits")
    (root / "a").chmod(0o000)
    (root / "c").chmod(0o744)
    root.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", UNREADABLE, str(root)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    if os.geteuid() != 0:
        (root / "a").chmod(0o755)
    lines = done.stdout.splitlines()
    assert "error a PermissionError" in lines
    assert "found b/x.fits" in lines
    if os.geteuid() == 0:
        # Others may list c and not enter it.
        assert "error c/listed-only.fits PermissionError" in lines or (
            "error c PermissionError" in lines
        )


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """Make a directory for trees that are too deep for pytest to remove."""
    root = tmp_path / "deep"
    root.mkdir()
    yield root
    subprocess.run(["rm", "-rf", str(root)], check=True)


def test_deep_trees_need_no_recursion(deep: Path) -> None:
    depth = sys.getrecursionlimit() + 200
    directory = os.open(deep, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(os.open("deep.fits", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)
    assert paths(deep) == ["d/" * depth + "deep.fits"]


def test_a_tree_deeper_than_any_path_is_reported_and_ends(deep: Path) -> None:
    directory = os.open(deep, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=directory)
        below = os.open("x" * 250, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    told: list[OSError] = []
    assert list(scan(deep, onerror=lambda path, error: told.append(error))) == []
    assert len(told) == 1
    assert "too long" in str(told[0])


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    for number in range(5):
        make(tmp_path / f"d{number}" / "a.fits")
    before = len(os.listdir("/proc/self/fd"))
    walk: Iterator[Arrival] = scan(tmp_path, onerror=never)
    next(walk)
    walk.close()  # type: ignore[attr-defined]
    list(scan(tmp_path, onerror=never))
    assert len(os.listdir("/proc/self/fd")) == before


def test_memory_is_flat_with_many_files(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    for number in range(80_000):
        os.close(os.open(f"{number:07}.fits", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)
    tracemalloc.start()
    try:
        count = sum(1 for _ in scan(tmp_path, onerror=never))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 80_000
    # A chunk costs about 8 MB, all the entries at once about 60 MB; other threads count, too.
    assert peak < 30e6


def test_one_lstat_per_file_and_no_open(tmp_path: Path) -> None:
    for number in range(100):
        make(tmp_path / "sub" / f"{number}.fits")
    trace = tmp_path / "trace"
    script = (
        "import sys; from pathlib import Path; from buffer.discovery import scan\n"
        "from os import getppid; getppid()\n"
        "for a in scan(Path(sys.argv[1]), onerror=print): pass\n"
        "getppid()\n"
    )
    done = subprocess.run(
        [need("strace"), "-o", str(trace), sys.executable, "-c", script, str(tmp_path / "sub")],
        capture_output=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    walk = trace.read_text().split("getppid()")[1]
    assert walk.count(".fits") == 100
    assert walk.count("openat(") == 1
    assert walk.count("getdents64") <= 3
