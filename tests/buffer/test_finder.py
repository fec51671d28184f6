"""The finder's cycles, with real files: what is taken in, refused, left and taken up again."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection

from buffer import placing, steps
from buffer.finder import Finder
from buffer.models import File, Refusal, RefusalReason
from tests.buffer.conftest import Ground, cycle

pytestmark = pytest.mark.django_db


def test_takes_in_and_ends_quiet(ground: Ground) -> None:
    for n in range(5):
        ground.put(f"2026/11/23/exposure_{n}.fits", b"%d" % n)
    finder = ground.finder()
    assert cycle(finder).done == 5
    assert cycle(finder).quiet
    assert ground.stored("2026/11/23/exposure_3.fits") == b"3"
    assert not [path for path in ground.source.rglob("*") if path.is_file()]
    assert not File.objects.unreleased().exists()
    ground.check()


def test_many_files_in_many_directories(ground: Ground, other_file_system: Path) -> None:
    """More directories than are kept open, more files than one batch, with the usual limits."""
    shutil.rmtree(ground.root)
    ground.root.symlink_to(other_file_system)
    (other_file_system / ".endpoint-storage").write_text(f"{ground.storage.marker}\n")
    for n in range(700):
        ground.put(f"d{n % 150}/f{n}", b"%d" % n)
    finder = ground.finder(fsync=True)
    assert cycle(finder).done == 700
    assert len(os.listdir(other_file_system / ".incoming")) == 0
    assert File.objects.stored().count() == 700
    assert len(os.listdir("/proc/self/fd")) < 100


def test_deep_directories(ground: Ground) -> None:
    name = "/".join(["a"] * 950) + "/x"
    descriptor = os.open(ground.source, os.O_RDONLY)
    for part in name.split("/")[:-1]:
        os.mkdir(part, dir_fd=descriptor)
        below = os.open(part, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    assert cycle(ground.finder()).done == 1
    assert File.objects.stored().get().filename == "x"


def test_names_that_the_database_would_not_take(ground: Ground) -> None:
    (Path(os.fsdecode(os.fsencode(ground.source) + b"/bad\xff.fits"))).write_bytes(b"x")
    ground.put("new\nline.fits")
    ground.put("good name é.fits")
    finder = ground.finder()
    assert cycle(finder).done == 3
    assert cycle(finder).quiet
    assert set(Refusal.objects.values_list("reason", flat=True)) == {RefusalReason.BAD_NAME}
    assert File.objects.get().filename == "good name é.fits"


def test_what_is_not_a_regular_file(ground: Ground) -> None:
    os.mkfifo(ground.source / "fifo")
    (ground.source / "link").symlink_to("/etc/passwd")
    (ground.source / "directory").symlink_to("/etc")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(ground.source / "socket"))
    finder = ground.finder()
    assert cycle(finder).done == 4
    assert cycle(finder).quiet
    assert set(Refusal.objects.values_list("reason", flat=True)) == {RefusalReason.NOT_REGULAR}
    assert not File.objects.exists()


def test_a_conflict_overwrites_nothing(ground: Ground) -> None:
    ground.put("a.fits", b"first")
    finder = ground.finder()
    cycle(finder)
    ground.put("a.fits", b"second")
    assert cycle(finder).done == 1
    assert cycle(finder).quiet, "it is not read again until it changes"
    assert (ground.stored("a.fits"), (ground.source / "a.fits").read_bytes()) == (
        b"first",
        b"second",
    )
    assert ground.refusal().reason == RefusalReason.CONFLICT
    assert ground.refusal().file == File.objects.get()
    os.unlink(ground.source / "a.fits")
    cycle(finder)
    assert ground.refusal().resolved_how == "no longer in the buffer"


def test_an_untracked_file_in_storage(ground: Ground) -> None:
    (ground.root / "same").write_bytes(b"content")
    (ground.root / "other").write_bytes(b"of somebody else")
    (ground.root / "link").symlink_to("/etc/passwd")
    (ground.root / "directory").mkdir()
    (ground.root / "way").symlink_to("/tmp")
    for name in ("same", "other", "link", "directory", "way/file"):
        ground.put(name)
    finder = ground.finder()
    assert cycle(finder).done == 5
    assert File.objects.get().filename == "same"
    assert ground.stored("other") == b"of somebody else"
    assert os.readlink(ground.root / "link") == "/etc/passwd"
    assert not Path("/tmp/file").exists()
    refusals = {refusal.path: refusal for refusal in Refusal.objects.all()}
    assert {refusal.reason for refusal in refusals.values()} == {RefusalReason.CONFLICT}
    assert "storage has a symbolic link" in refusals["link"].detail
    assert "storage" in refusals["way/file"].detail
    assert cycle(finder).quiet


def test_a_person_decides(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    (ground.root / "a").write_bytes(b"other")
    ground.put("a")
    monkeypatch.setattr("buffer.decisions.REFRESH_S", 0.0)
    finder = ground.finder()
    cycle(finder)
    os.unlink(ground.root / "a")
    assert cycle(finder).quiet
    Refusal.objects.update(resolved_on="2026-01-01T00:00Z", resolved_by="me", resolved_how="go")
    assert cycle(finder).done == 1
    assert ground.stored("a") == b"content"


def test_twins_of_one_batch(ground: Ground) -> None:
    ground.put("a/x")
    ground.put("b/x")
    finder = ground.finder()
    first = cycle(finder)
    assert (first.done, first.waiting) == (1, 1)
    cycle(finder)
    assert File.objects.stored().count() == 1
    assert ground.refusal().reason == RefusalReason.DUPLICATE
    assert not [path for path in ground.source.rglob("*") if path.is_file()]


WRITER = """
import sys, time
with open(sys.argv[1], "wb") as file:
    for n in range(4):
        file.write(b"part %d" % n); file.flush(); print(n, flush=True); sys.stdin.readline()
"""


def test_a_writer_is_waited_for(ground: Ground) -> None:
    """However long he is quiet, as long as he has the file open."""
    path = ground.source / "slow"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        finder = ground.finder(search={"method": "scan", "delay": 0.05})
        for _ in range(4):
            writer.stdout.readline()
            time.sleep(0.12)
            for _ in range(2):
                found = cycle(finder)
                assert (found.done, found.waiting, found.quiet) == (0, 1, False)
            writer.stdin.write("\n")
            writer.stdin.flush()
    time.sleep(0.12)
    assert cycle(finder).done == 1
    assert ground.stored("slow") == b"part 0part 1part 2part 3"


def test_a_sidecar_goes_first(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.put("x.fits.fz")
    time.sleep(1.05)
    finder = ground.finder(search={"method": "scan", "delay": 1})
    ground.put("x.json")
    found = cycle(finder)
    assert (found.done, found.waiting) == (0, 2)
    time.sleep(1.05)
    assert cycle(finder).done == 2
    assert list(File.objects.order_by("id").values_list("filename", flat=True)) == [
        "x.json",
        "x.fits.fz",
    ]


def test_excluded(ground: Ground) -> None:
    ground.put("a.log")
    ground.put("a.fits")
    finder = ground.finder(search={"method": "scan", "delay": 0, "exclude_list": [r".*\.log$"]})
    assert cycle(finder).done == 1
    assert (ground.source / "a.log").exists()
    assert cycle(finder).quiet


# What happens between two steps


def at(monkeypatch: pytest.MonkeyPatch, step: str, deed: Callable[[], object]) -> None:
    """Do something once, when a step is reached."""
    done = []

    def reached(name: str) -> None:
        if name == step and not done:
            done.append(name)
            deed()

    monkeypatch.setattr(steps, "reached", reached)


def test_the_source_grows_before_it_is_committed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ground.put("a", b"begun")

    def grow() -> None:
        with open(path, "ab") as file:
            file.write(b" and done")

    at(monkeypatch, "placed", grow)
    finder = ground.finder()
    assert cycle(finder).waiting == 1
    assert not File.objects.exists()
    assert not (ground.root / "a").exists()
    cycle(finder)
    assert ground.stored("a") == b"begun and done"
    ground.check()


def test_the_source_is_replaced(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ground.put("a", b"old")

    def replace() -> None:
        ground.put(".new.tmp", b"new").rename(path)

    at(monkeypatch, "stored committed", replace)
    finder = ground.finder()
    cycle(finder)
    assert (ground.stored("a"), path.read_bytes()) == (b"old", b"new")
    cycle(finder)
    assert ground.refusal().reason == RefusalReason.CONFLICT
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("links", [True, False])
def test_the_source_is_swapped_before_it_is_placed(
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    refuse_links: Callable[[], None],
    links: bool,
) -> None:
    path = ground.put("a", b"old")
    at(monkeypatch, "intent committed", lambda: ground.put(".new.tmp", b"new").rename(path))
    if not links:
        refuse_links()
    finder = ground.finder()
    assert cycle(finder).waiting == 1
    assert path.read_bytes() == b"new"
    cycle(finder)
    assert ground.stored("a") == b"new"
    ground.check()


def test_the_source_vanishes(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ground.put("a")
    at(monkeypatch, "intent committed", path.unlink)
    finder = ground.finder()
    cycle(finder)
    assert ground.refusal().reason == RefusalReason.VANISHED
    ground.check()


def test_its_directory_in_storage_is_moved_away(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ground.put("day/a")

    def move() -> None:
        (ground.root / "day").rename(tmp_path / "elsewhere")
        (ground.root / "day").symlink_to(tmp_path / "elsewhere")

    at(monkeypatch, "placed", move)
    finder = ground.finder()
    cycle(finder)
    assert not File.objects.exists()
    assert (ground.source / "day/a").exists()
    assert ground.refusal().reason == RefusalReason.EIO


def test_hard_links_refused(ground: Ground, refuse_links: Callable[[], None]) -> None:
    ground.put("d/a")
    refuse_links()
    assert cycle(ground.finder()).done == 1
    assert ground.stored("d/a") == b"content"
    ground.check()


def test_buffer_that_may_only_be_read(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored by a copy, and the refusal says what is left to do."""
    ground.put("a")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.link", refuse)
    plain = placing.rename_no_replace

    def rename(source_dir: int, name: str, *rest: Any) -> None:
        if name == "a":
            refuse()
        plain(source_dir, name, *rest)

    monkeypatch.setattr(placing, "rename_no_replace", rename)
    unlink = os.unlink
    monkeypatch.setattr(
        "os.unlink", lambda name, **kw: refuse() if name == "a" else unlink(name, **kw)
    )
    finder = ground.finder()
    cycle(finder)
    assert ground.stored("a") == b"content"
    assert "cannot be removed from the buffer" in ground.refusal().detail
    assert cycle(finder).quiet
    monkeypatch.undo()
    Refusal.objects.all().delete()
    assert cycle(ground.finder()).quiet, "a fresh start releases it"
    assert not (ground.source / "a").exists()
    assert not File.objects.unreleased().exists()


# Trouble in the storage


def failing(
    monkeypatch: pytest.MonkeyPatch, what: str, code: int, when: Callable[..., bool]
) -> None:
    module, _, name = what.rpartition(".")
    plain = getattr(sys.modules[module], name)

    def call(*args: Any, **kw: Any) -> Any:
        if when(*args, **kw):
            raise OSError(code, os.strerror(code))
        return plain(*args, **kw)

    monkeypatch.setattr(what, call)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_storage(ground: Ground, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    for name in "abc":
        ground.put(name, name.encode())
    with monkeypatch.context() as patch:
        failing(patch, "os.link", code, lambda *a, **k: True)
        finder = ground.finder()
        found = cycle(finder)
        assert "takes no files" in found.blocked
        assert not File.objects.exists()
        assert ground.refusal().reason == RefusalReason.STORAGE_FULL
        assert len(list(ground.source.iterdir())) == 3
    assert cycle(finder).done == 2, "resumes by itself; the one refused waits for its turn"
    finder._refusals._steady = lambda: time.monotonic() + 1000
    assert cycle(finder).done == 1
    assert ground.refusal().resolved_how == "taken in"
    ground.check()


def test_a_huge_file_does_not_hold_up_others(ground: Ground, other_file_system: Path) -> None:
    (other_file_system / "in").mkdir()
    with open(other_file_system / "in" / "huge", "wb") as file:
        file.truncate(1 << 46)
    (other_file_system / "in" / "small").write_bytes(b"x")
    finder = ground.finder(source=str(other_file_system / "in"))
    assert "takes no files" in cycle(finder).blocked
    cycle(finder)
    assert File.objects.stored().get().filename == "small"
    assert ground.refusal().reason == RefusalReason.STORAGE_FULL
    ground.check()


@pytest.mark.parametrize("where", ["os.mkdir", "os.link"])
def test_read_only_storage(ground: Ground, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    ground.put("d/a")
    with monkeypatch.context() as patch:
        failing(patch, where, errno.EROFS, lambda *a, **k: True)
        finder = ground.finder()
        assert "Read-only" in cycle(finder).blocked
        assert not Refusal.objects.exists()
    assert cycle(finder).done == 1


@pytest.mark.parametrize("writable", [True, False])
def test_permission_in_storage(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, writable: bool
) -> None:
    """The whole area: blocked. One directory of it: that file is refused, in fitting words."""
    ground.put("d/a")
    ground.put("b")
    with monkeypatch.context() as patch:
        failing(patch, "os.mkdir", errno.EACCES, lambda name, *a, **k: name == "d")
        patch.setattr("os.access", lambda *a, **k: writable)
        finder = ground.finder()
        found = cycle(finder)
    assert ground.stored("b") == b"content"
    if writable:
        assert "directory in the storage may not be used" in ground.refusal().detail
    else:
        assert "no right to write" in found.blocked
        assert cycle(finder).done == 1


def test_sync_fails(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be synced does not stay; the next try writes a copy of its own."""
    path = ground.put("d/a")
    inode = path.stat().st_ino
    with monkeypatch.context() as patch:
        failing(patch, "os.fsync", errno.EIO, lambda *a: True)
        finder = ground.finder(fsync=True)
        assert cycle(finder).done == 1
    assert path.exists() and not (ground.root / "d/a").exists()
    assert not File.objects.exists()
    assert "medium of the storage" in ground.refusal().detail
    assert cycle(finder).quiet, "not at once"
    finder._refusals._steady = lambda: time.monotonic() + 1000
    assert cycle(finder).done == 1
    assert (ground.root / "d/a").stat().st_ino != inode
    ground.check()


def test_sync_finds_no_room(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only EIO: whatever the reason, what was not written is not trusted again."""
    inodes = {ground.put(name).stat().st_ino for name in "ab"}
    with monkeypatch.context() as patch:
        failing(patch, "os.fsync", errno.ENOSPC, lambda *a: True)
        finder = ground.finder(fsync=True)
        assert "takes no files" in cycle(finder).blocked
    assert Refusal.objects.filter(reason=RefusalReason.EIO).count() == 2
    finder._refusals._steady = lambda: time.monotonic() + 1000
    cycle(finder)
    assert not inodes & {(ground.root / name).stat().st_ino for name in "ab"}
    ground.check()


def test_one_file_of_a_good_sync_was_not_written(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = ground.put("a", b"bad").stat().st_ino
    ground.put("b", b"good")

    def require(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("buffer.storing.require_written", require)
    finder = ground.finder(fsync=True)
    cycle(finder)
    assert (ground.source / "a").exists() and not (ground.root / "a").exists()
    assert ground.stored("b") == b"good"
    finder._refusals._steady = lambda: time.monotonic() + 1000
    cycle(finder)
    assert ground.stored("a") == b"bad"
    ground.check()


def test_reading_fails(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.put("a")
    ground.put("b")
    bad = os.stat(ground.source / "a").st_ino
    failing(monkeypatch, "os.pread", errno.EIO, lambda fd, *a: os.fstat(fd).st_ino == bad)
    assert cycle(ground.finder()).done == 2
    assert "medium of the buffer" in ground.refusal().detail
    ground.check()


def test_too_many_open_files(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.put("a")
    with monkeypatch.context() as patch:
        failing(patch, "os.pread", errno.EMFILE, lambda *a: True)
        finder = ground.finder()
        assert "limit of the system" in cycle(finder).blocked
    assert not Refusal.objects.exists()
    assert cycle(finder).done == 1


def test_storage_not_mounted(ground: Ground) -> None:
    marker = ground.root / ".endpoint-storage"
    text = marker.read_text()
    marker.unlink()
    ground.put("a")
    finder = ground.finder()
    assert "is its file system mounted" in cycle(finder).blocked
    assert list(ground.root.iterdir()) == []
    marker.write_text(text)
    assert cycle(finder).done == 1


def test_another_storage_is_mounted_there(ground: Ground) -> None:
    (ground.root / ".endpoint-storage").write_text("00000000-0000-4000-8000-000000000000\n")
    ground.put("a")
    assert "marked as another storage" in cycle(ground.finder()).blocked


def test_the_buffer_is_gone(ground: Ground) -> None:
    finder = ground.finder()
    shutil.rmtree(ground.source)
    assert "No such file" in cycle(finder).blocked


# Trouble with the database


@pytest.mark.parametrize(
    "step", ["intent committed", "placed", "durable", "stored committed", "released"]
)
def test_database_fails_in_mid_batch(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for n in range(3):
        ground.put(f"d/{n}", b"%d" % n)

    def fail() -> None:
        raise OperationalError("server closed the connection unexpectedly")

    at(monkeypatch, step, fail)
    finder = ground.finder()
    assert "does not answer" in cycle(finder).blocked
    cycle(finder)
    cycle(finder)
    assert File.objects.stored().count() == 3
    assert not File.objects.unreleased().exists()
    assert not [path for path in ground.source.rglob("*") if path.is_file()]
    ground.check()


def test_a_refusal_that_could_not_be_recorded_is_not_forgotten(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ground.source / "link").symlink_to("x")

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("gone")

    finder = ground.finder()
    with monkeypatch.context() as patch:
        patch.setattr(Refusal.objects, "bulk_create", fail)
        assert cycle(finder).blocked
    assert cycle(finder).done == 1
    assert ground.refusal().reason == RefusalReason.NOT_REGULAR


def test_intents_that_somebody_deleted(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.put("a")
    at(monkeypatch, "placed", lambda: File.objects.intents().delete())
    assert cycle(ground.finder()).done == 1
    assert File.objects.stored().get().filename == "a"
    ground.check()


# In place


def noop(ground: Ground, **changes: Any) -> Finder:
    return ground.finder(source=str(ground.root), actions={"standard": "Noop"}, **changes)


def test_recorded_in_place(ground: Ground) -> None:
    (ground.root / "d").mkdir()
    (ground.root / "d" / "a").write_bytes(b"content")
    finder = noop(ground)
    assert cycle(finder).done == 1
    assert cycle(finder).quiet
    assert cycle(noop(ground)).quiet
    (ground.root / "d" / "a").write_bytes(b"other content")
    assert cycle(finder).done == 1
    assert ground.refusal().reason == RefusalReason.CHANGED_IN_STORAGE
    assert (ground.root / "d" / "a").read_bytes() == b"other content"
    assert cycle(finder).quiet


def test_duplicates_in_storage_are_left(ground: Ground) -> None:
    for name in ("d", "e"):
        (ground.root / name).mkdir()
        (ground.root / name / "a").write_bytes(b"content")
    finder = noop(ground)
    cycle(finder)
    cycle(finder)
    assert (ground.root / "d" / "a").exists() and (ground.root / "e" / "a").exists()
    assert ground.refusal().reason == RefusalReason.DUPLICATE
    assert cycle(finder).quiet


def test_idle_cycles_ask_little(ground: Ground) -> None:
    for n in range(20):
        ground.put(f"{n}")
        (ground.source / f"link{n}").symlink_to("x")
    finder = ground.finder()
    cycle(finder)
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        assert cycle(finder).quiet
    assert len(queries) == 0


def test_what_monitoring_wants_to_know(ground: Ground) -> None:
    finder = ground.finder()
    cycle(finder)
    assert finder.measures()["stored_at"] is None
    for n in range(3):
        ground.put(f"{n}", b"%d" % n)
    began = time.time()
    cycle(finder)
    found = finder.measures()
    assert sum(found["take_in"]["counts"]) == 3
    assert 0 < found["take_in"]["sum_s"] < 3 * (time.time() - began)
    assert began <= found["stored_at"] <= time.time()
    for area in ("buffer", "storage"):
        assert 0 < found["free_bytes"][area] <= found["total_bytes"][area]
    shutil.rmtree(ground.source)
    assert finder.measures()["free_bytes"]["buffer"] is None


def test_bounded_cycles_go_on_where_they_stopped(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buffer.batches.FILES", 2)
    for n in range(7):
        ground.put(f"{n}", b"%d" % n)
    finder = ground.finder()
    found = [finder.cycle(until=0, stop=lambda: False) for _ in range(5)]
    assert [one.complete for one in found] == [False, False, False, False, True]
    assert found[-1].done == 7
