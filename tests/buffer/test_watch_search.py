"""What a finder looks at that is told of changes by the kernel: real notices, real limits."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buffer import inotify, watch_search
from buffer.settling import Settling, state_of
from buffer.trees import Tree
from buffer.watch_search import WatchSearch


class Buffer:
    """A directory, and somebody who looks for arrivals in it."""

    def __init__(self, root: Path, delay: float = 0) -> None:
        self.root = root
        self.settling = Settling(delay)
        self.errors: list[str] = []
        self.search = WatchSearch(
            root,
            lambda relpath, filename: filename.startswith("not"),
            lambda path, error: self.errors.append(path),
            self.settling,
        )

    def look(self) -> list[str]:
        """Look once; give the paths that came up."""
        with Tree(self.root) as tree:
            self.search.begin(tree, tree)
            found = list(self.search.arrivals())
            self.search.finish(0)
        for arrival in found:
            self.settling.is_settled(arrival.path, state_of(arrival.stat))
        return [arrival.path for arrival in found]

    def put(self, name: str, content: str = "content") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    """A buffer with old files, whose first look, a full scan, is over."""
    root = tmp_path / "buffer"
    root.mkdir()
    made = Buffer(root)
    made.put("old")
    made.put("deep/er/old")
    assert made.look() == ["old", "deep/er/old"] and made.search.whole
    assert made.look() == [] and not made.search.whole
    yield made
    assert made.errors == []


def test_only_what_changed_is_looked_at(buffer: Buffer) -> None:
    buffer.put("new")
    buffer.put("deep/er/new")
    os.rename(buffer.put("deep/.new.fits.Xy12zQ"), buffer.root / "deep/new.fits")
    os.link(buffer.root / "old", buffer.root / "linked")
    (buffer.root / "link").symlink_to("/etc/passwd")
    os.mkfifo(buffer.root / "fifo")
    assert sorted(buffer.look()) == [
        "deep/er/new",
        "deep/new.fits",
        "fifo",
        "link",
        "linked",
        "new",
    ]
    assert not buffer.search.whole
    assert buffer.look() == []


def test_what_is_left_out_of_scans_is_left_out_here(buffer: Buffer) -> None:
    for name in ("not.fits", "a.part", ".endpoint-storage", ".incoming/a", "deep/.~tmp~/a"):
        buffer.put(name)
    (buffer.root / "way").symlink_to("/etc")
    assert buffer.look() == ["way"]
    (buffer.root / ".incoming" / "b").touch()
    (buffer.root / "deep/.~tmp~" / "b").touch()
    buffer.put("deep/gone").unlink()
    assert buffer.look() == []


def test_new_directories_lose_nothing(buffer: Buffer) -> None:
    """Neither what is in them before they are watched nor what comes later."""
    shutil.copytree(buffer.root / "deep", buffer.root / "copy/of/deep")
    assert buffer.look() == ["copy/of/deep/er/old"]
    buffer.put("copy/of/deep/new")
    buffer.put("copy/another/new")
    assert sorted(buffer.look()) == ["copy/another/new", "copy/of/deep/new"]


def test_files_come_while_new_directories_are_walked(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanning = watch_search.scan

    def slow_scan(*args: object, onenter: Callable[[str, int], None], **kwargs: object) -> object:
        def enter(relpath: str, descriptor: int) -> None:
            buffer.put(f"{relpath}/before watching")
            onenter(relpath, descriptor)
            buffer.put(f"{relpath}/after watching")

        return scanning(*args, onenter=enter, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(watch_search, "scan", slow_scan)
    (buffer.root / "day").mkdir()
    assert sorted(buffer.look()) == ["day/after watching", "day/before watching"]


def test_directories_that_move(buffer: Buffer, tmp_path: Path) -> None:
    os.rename(buffer.root / "deep", buffer.root / "moved")
    buffer.put("moved/er/new")
    assert sorted(buffer.look()) == ["moved/er/new", "moved/er/old"], "each once"
    buffer.put("moved/er/newer")
    assert buffer.look() == ["moved/er/newer"]
    # Out of the buffer, then a directory of its name.
    os.rename(buffer.root / "moved", tmp_path / "outside")
    buffer.put("moved/er/newest")
    (tmp_path / "outside/er/stranger").touch()
    assert buffer.look() == ["moved/er/newest"]
    buffer.search.look_at_everything()
    assert sorted(buffer.look()) == ["moved/er/newest", "old"]
    (tmp_path / "outside/er/another").touch()
    assert buffer.search.wakes is not None
    assert not buffer.search.wakes.read().files, "it is not watched any more"


def test_directories_that_are_removed(buffer: Buffer) -> None:
    shutil.rmtree(buffer.root / "deep")
    assert buffer.look() == []
    buffer.put("deep/er/old")
    assert buffer.look() == ["deep/er/old"]
    (buffer.root / "deep/er/old").unlink()
    (buffer.root / "deep/er").rmdir()
    (buffer.root / "deep/er").symlink_to("/etc")
    buffer.search.look_again(["deep/er/passwd"])
    assert buffer.look() == ["deep/er"]


def test_another_directory_takes_the_place_of_the_buffer(buffer: Buffer, tmp_path: Path) -> None:
    os.rename(buffer.root, tmp_path / "before")
    buffer.put("of the new one")
    assert buffer.look() == ["of the new one"] and buffer.search.whole
    buffer.put("newer")
    assert buffer.look() == ["newer"] and not buffer.search.whole


def test_lost_notices(buffer: Buffer, caplog: pytest.LogCaptureFixture) -> None:
    """The queue has room for some; what does not fit is found by a full scan, at once."""
    room = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for n in range(room // 2 + 1):
        # Two notices for each: made, and closed.
        (buffer.root / f"{n}").touch()
    (buffer.root / "last").touch()
    with caplog.at_level(logging.INFO):
        assert len(buffer.look()) == room // 2 + 4 and buffer.search.whole
    assert "notices were lost" in caplog.text
    buffer.put("new")
    assert buffer.look() == ["new"] and not buffer.search.whole


def test_full_scans_come_regularly(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert buffer.search.pause_s(1.0) == pytest.approx(watch_search.RESCAN_S, abs=5)
    monkeypatch.setattr(watch_search, "RESCAN_S", 0.0)
    buffer.search.look_at_everything()
    for _ in range(2):
        assert buffer.look() == ["old", "deep/er/old"] and buffer.search.whole


def test_quiet_times_end_the_pause(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, delay=20)
    buffer.look()
    buffer.put("a")
    assert buffer.look() == ["a"]
    assert 1 < buffer.search.pause_s(30.0) <= 20
    assert buffer.look() == [], "it is not due"
    buffer.search.look_again(["a"])
    assert buffer.search.pause_s(0.05) == 0.05
    buffer.settling.delay = 0.0
    assert buffer.search.pause_s(1.0) == 0
    assert buffer.look() == ["a"], "once, though it is due and to be looked at again"


def test_age_proves_nothing(tmp_path: Path) -> None:
    """Whatever the clock of the file system says, a file is no older than its notice."""
    buffer = Buffer(tmp_path / "buffer", delay=30)
    buffer.root.mkdir()
    for directory in (buffer.root, tmp_path / "elsewhere"):
        (directory / "x").mkdir(parents=True)
        (directory / "x/old").touch()
    buffer.settling._last_began -= 1000
    buffer.look()
    os.rename(tmp_path / "elsewhere/x/old", buffer.root / "x/moved")
    os.rename(tmp_path / "elsewhere/x", buffer.root / "y")
    (buffer.root / "x/touched").touch()
    assert buffer.look() == ["x/moved", "x/touched"]
    assert buffer.settling.is_waited_for("x/moved")


def test_network_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Tree(tmp_path) as tree:
        assert inotify.why_silent(tree.descriptor) == ""
    kinds = {
        line.partition(" - ")[2].split()[0]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    }
    monkeypatch.setattr(inotify, "NETWORK", frozenset(kinds))
    buffer = Buffer(tmp_path)
    buffer.put("a")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert buffer.look() == ["a"] and buffer.search.whole
    (record,) = caplog.records
    assert "watch works as scan: the file system" in record.getMessage()
    assert buffer.search.wakes is None
    assert buffer.search.pause_s(1.5) == 1.5


LIMITED = """
import logging, sys
from pathlib import Path
from tests.buffer.test_watch_search import Buffer
from buffer import watch_search
logging.basicConfig(format="%(message)s")
buffer = Buffer(Path(sys.argv[1]))
for n in range(5):
    buffer.put(f"{n}/file")
    found = buffer.look()
    print(len(found), buffer.search.whole, buffer.search.wakes is None)
Path(f"/proc/sys/user/max_inotify_watches").write_text("100")
Path(f"/proc/sys/user/max_inotify_instances").write_text("100")
buffer.look()
print(buffer.search.wakes is None)
watch_search.RETRY_S = 0
buffer.search._ask_at = 0
buffer.look()
buffer.put("new")
print(buffer.look(), buffer.search.wakes is None)
"""


@pytest.mark.parametrize(("limit", "room"), [("watches", 3), ("instances", 0)])
def test_limits_of_the_kernel(tmp_path: Path, limit: str, room: int) -> None:
    """Real ones, in a user namespace of our own; nothing is lost, and it is said once."""
    script = f"echo {room} > /proc/sys/user/max_inotify_{limit}; exec {sys.executable} - {tmp_path}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-ec", script],
        input=LIMITED,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert done.stderr.strip() == (
        f"search.method watch works as scan: the kernel's limit fs.inotify.max_user_{limit} is"
        " reached; raise it"
    )
    told = [(1, True, room == 0)]
    if room:
        told += [(1, False, False), (1, False, True)]
    while len(told) < 5:
        told.append((len(told) + 1, True, True))
    lines = [*(" ".join(map(str, line)) for line in told), "True", "['new'] False"]
    assert done.stdout.splitlines() == lines


def test_names_that_are_not_utf_8(buffer: Buffer) -> None:
    name = os.fsdecode(b"bad\xff.fits")
    (buffer.root / name).touch()
    assert buffer.look() == [name]
