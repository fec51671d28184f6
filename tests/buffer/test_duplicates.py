"""Duplicates: the stored copy is read again before anything happens to the arrival."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from buffer import steps
from buffer.io_errors import StorageError
from buffer.models import File, Refusal, RefusalReason
from tests.buffer.conftest import Ground, cycle

pytestmark = pytest.mark.django_db


@pytest.fixture
def twice(ground: Ground) -> Ground:
    """A stored file, and another arrival like it."""
    ground.put("d/a", b"content")
    cycle(ground.finder())
    ground.put("d/a", b"content")
    return ground


def action(ground: Ground, name: str, tmp_path: Path | None = None) -> dict[str, object]:
    actions = {"actions": {"standard": "Move", "alternative": name}}
    return actions if tmp_path is None else {**actions, "duplicates": str(tmp_path / "aside")}


def test_deleted_when_the_stored_copy_is_good(twice: Ground) -> None:
    cycle(twice.finder())
    assert not (twice.source / "d/a").exists()
    refusal = twice.refusal()
    assert (refusal.reason, refusal.file) == (RefusalReason.DUPLICATE, File.objects.get())
    assert "read again and is good" in refusal.resolved_how
    twice.check()


def test_no_room_to_set_a_duplicate_aside_says_where(
    twice: Ground, other_file_system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("buffer.duplicates.stage", full)
    options = {**action(twice, "Move"), "duplicates": str(other_file_system)}
    assert not cycle(twice.finder(**options)).blocked, "the storage has room"
    assert (twice.source / "d/a").exists()
    assert "duplicates" in twice.refusal().detail


@pytest.mark.parametrize("name", ["Delete", "Move"])
def test_a_damaged_copy_is_repaired(twice: Ground, tmp_path: Path, name: str) -> None:
    (twice.root / "d/a").write_bytes(b"contexx")
    (tmp_path / "aside").mkdir()
    cycle(twice.finder(**action(twice, name, tmp_path)))
    assert twice.stored("d/a") == b"content"
    assert not (twice.source / "d/a").exists()
    assert "repaired" in twice.refusal().resolved_how
    (kept,) = twice.incoming()
    assert (twice.root / ".incoming" / kept).read_bytes() == b"contexx"
    twice.check()


def test_a_missing_copy_is_repaired(twice: Ground) -> None:
    (twice.root / "d/a").unlink()
    (twice.root / "d").rmdir()
    cycle(twice.finder(fsync=True))
    assert twice.stored("d/a") == b"content"
    assert not (twice.source / "d/a").exists()
    twice.check()


def test_repaired_from_another_file_system(ground: Ground, other_file_system: Path) -> None:
    ground.put("a")
    cycle(ground.finder())
    (ground.root / "a").unlink()
    (other_file_system / "a").write_bytes(b"content")
    cycle(ground.finder(source=str(other_file_system)))
    assert ground.stored("a") == b"content"
    assert os.listdir(other_file_system) == []
    ground.check()


def test_a_stored_copy_that_cannot_be_judged(twice: Ground, tmp_path: Path) -> None:
    """An operator put a link there: neither it nor the arrival is touched."""
    (twice.root / "d/a").rename(tmp_path / "archive")
    (twice.root / "d/a").symlink_to(tmp_path / "archive")
    cycle(twice.finder())
    assert (twice.source / "d/a").exists()
    assert (twice.root / "d/a").is_symlink()
    assert twice.refusal().reason == RefusalReason.CONFLICT
    assert "storage has a symbolic link" in twice.refusal().detail


def test_noop_leaves_it(twice: Ground) -> None:
    finder = twice.finder(**action(twice, "Noop"))
    cycle(finder)
    assert cycle(finder).quiet
    assert (twice.source / "d/a").exists()
    assert twice.refusal().resolved_on is None


@pytest.mark.parametrize("elsewhere", [False, True])
def test_set_aside(twice: Ground, tmp_path: Path, other_file_system: Path, elsewhere: bool) -> None:
    aside = other_file_system if elsewhere else tmp_path / "aside"
    (aside / "d").mkdir(parents=True)
    (aside / "d/a").write_bytes(b"set aside before")
    cycle(
        twice.finder(
            actions={"standard": "Move", "alternative": "Move"}, duplicates=str(aside), fsync=True
        )
    )
    assert not (twice.source / "d/a").exists()
    assert sorted(os.listdir(aside / "d")) == ["a", "a.1"]
    assert (aside / "d/a.1").read_bytes() == b"content"
    assert f"set aside as {aside}/d/a.1" in twice.refusal().resolved_how
    twice.check()


def test_set_aside_with_the_longest_name(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "aside").mkdir()
    finder = ground.finder(**action(ground, "Move", tmp_path))
    for _ in range(3):
        ground.put("x" * 255)
        cycle(finder)
    names = sorted(os.listdir(tmp_path / "aside"))
    assert [len(name) for name in names] == [255, 255]
    assert names[0].endswith(".1")


def test_the_directory_for_duplicates_is_gone(twice: Ground, tmp_path: Path) -> None:
    cycle(twice.finder(**action(twice, "Move", tmp_path)))
    assert (twice.source / "d/a").exists()
    assert "directory for duplicates" in twice.refusal().detail


def test_what_cannot_be_removed_is_not_set_aside_again_and_again(
    twice: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aside").mkdir()
    unlink, inode = os.unlink, os.stat(twice.source / "d").st_ino

    def refuse(name: str, *, dir_fd: int) -> None:
        if os.fstat(dir_fd).st_ino == inode:
            raise PermissionError(13, "Permission denied")
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    for _ in range(3):
        cycle(twice.finder(**action(twice, "Move", tmp_path)))
    assert os.listdir(tmp_path / "aside/d") == []
    assert "cannot be removed from the buffer" in twice.refusal().detail


def test_compared_under_the_algorithm_of_the_stored_one(ground: Ground) -> None:
    ground.put("a")
    cycle(ground.finder(checksum="md5"))
    ground.put("b/a")
    cycle(ground.finder())
    assert File.objects.get().checksum_algorithm == "md5"
    assert ground.refusal().reason == RefusalReason.DUPLICATE


def test_same_content_under_another_name_is_new(ground: Ground) -> None:
    ground.put("a")
    ground.put("b")
    ground.put("empty1", b"")
    cycle(ground.finder())
    assert File.objects.count() == 3
    assert not Refusal.objects.exists()


def test_a_repair_that_the_medium_did_not_take(
    twice: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads well from memory; the next try must not take it for good and delete the arrival."""
    (twice.root / "d/a").unlink()
    arrival = (twice.source / "d/a").stat().st_ino
    finder = twice.finder(fsync=True)
    with monkeypatch.context() as patch:

        def fail(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "fsync", fail)
        cycle(finder)
    assert (twice.source / "d/a").exists() and not (twice.root / "d/a").exists()
    assert "medium of the storage" in twice.refusal().detail
    finder._refusals._steady = lambda: time.monotonic() + 1000
    cycle(finder)
    assert not (twice.source / "d/a").exists()
    assert (twice.root / "d/a").stat().st_ino != arrival, "written anew"
    twice.check()


def test_an_arrival_that_is_written_while_it_repairs(
    twice: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    (twice.root / "d/a").unlink()

    def reached(step: str) -> None:
        if step == "repaired":
            with (twice.source / "d/a").open("ab") as file:
                file.write(b" and more")

    monkeypatch.setattr(steps, "reached", reached)
    cycle(twice.finder())
    assert not (twice.root / "d/a").exists()
    assert (twice.source / "d/a").read_bytes() == b"content and more"


def test_the_stored_copy_is_read_from_its_medium(
    twice: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = []

    def advise(descriptor: int, begin: int, length: int, advice: int) -> None:
        if advice == os.POSIX_FADV_DONTNEED:
            forgotten.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    cycle(twice.finder())
    assert forgotten == [(twice.root / "d/a").stat().st_ino]
