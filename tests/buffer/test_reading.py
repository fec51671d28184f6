"""One arrival: read once, copied where it must be."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffer import reading as reading_module
from buffer.discovery import Arrival
from buffer.io_errors import StorageError
from buffer.reading import Unsettled, read
from buffer.trees import Tree


@pytest.fixture
def incoming(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "incoming").mkdir()
    with Tree(tmp_path / "incoming") as tree:
        yield tree


def opened(path: Path) -> tuple[Arrival, int]:
    return Arrival("", path.name, path.lstat()), os.open(path, os.O_RDONLY)


def test_read_and_copied(tmp_path: Path, incoming: Tree) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    os.utime(path, (1e9, 1e9))
    path.chmod(0o640)
    arrival, descriptor = opened(path)
    found = read(arrival, descriptor, ["md5", "blake3"], incoming.descriptor, "me-")
    (copy,) = incoming.root.iterdir()
    assert copy.name.startswith("me-") and copy.read_bytes() == b"content"
    assert (copy.stat().st_mtime, copy.stat().st_mode & 0o777) == (1e9, 0o640)
    assert set(found.checksums) == {"md5", "blake3"}
    assert found.unchanged
    found.close()
    assert list(incoming.root.iterdir()) == []


def test_the_medium_is_at_work_before_the_sync(
    tmp_path: Path, incoming: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind every so many bytes, and behind the last."""
    sizes: list[int] = []
    monkeypatch.setattr(reading_module, "WRITE_BEHIND_BYTES", 2 << 20)
    monkeypatch.setattr(
        reading_module, "begin_to_write", lambda fd: sizes.append(os.fstat(fd).st_size)
    )
    path = tmp_path / "a"
    path.write_bytes(bytes((3 << 20) + 5))
    arrival, descriptor = opened(path)
    read(arrival, descriptor, ["blake3"], incoming.descriptor, "me-").close()
    assert sizes == [2 << 20, (3 << 20) + 5]


def test_a_copy_that_the_medium_does_not_take_is_removed(
    tmp_path: Path, incoming: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(reading_module, "begin_to_write", fail)
    path = tmp_path / "a"
    path.write_bytes(b"content")
    arrival, descriptor = opened(path)
    with pytest.raises(StorageError):
        read(arrival, descriptor, ["blake3"], incoming.descriptor, "me-")
    assert list(incoming.root.iterdir()) == []
    os.close(descriptor)


def test_a_change_meanwhile_leaves_nothing(tmp_path: Path, incoming: Tree) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    arrival, descriptor = opened(path)
    path.write_bytes(b"other content")
    with pytest.raises(Unsettled):
        read(arrival, descriptor, ["md5"], incoming.descriptor, "me-")
    assert list(incoming.root.iterdir()) == []
    os.close(descriptor)


def test_unchanged_notices_growth_and_writers(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    arrival, descriptor = opened(path)
    found = read(arrival, descriptor, ["md5"], None, "me-")
    assert found.unchanged
    with open(path, "ab") as writer:
        writer.write(b"more")
        writer.flush()
        assert not found.unchanged
    found.close()


def test_no_room_is_found_out_before_the_first_byte(
    tmp_path: Path, incoming: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    with open(path, "wb") as file:
        file.truncate(1 << 43)
    arrival, descriptor = opened(path)
    monkeypatch.setattr(reading_module, "checksums", None)
    with pytest.raises(StorageError) as error:
        read(arrival, descriptor, ["md5"], incoming.descriptor, "me-")
    assert error.value.errno == errno.ENOSPC
    os.close(descriptor)


def test_a_copy_that_cannot_be_written_is_removed(
    tmp_path: Path, incoming: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    arrival, descriptor = opened(path)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(StorageError):
            read(arrival, descriptor, ["md5"], incoming.descriptor, "me-")
    assert list(incoming.root.iterdir()) == []
    os.close(descriptor)
