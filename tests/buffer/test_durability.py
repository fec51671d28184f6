"""What is synced, and how."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from buffer import durability
from buffer.durability import FEW, Pending
from buffer.trees import Tree


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append(os.readlink(f"/proc/self/fd/{fd}")))
    monkeypatch.setattr(durability, "_syncfs", lambda fd: calls.append("syncfs"))
    return calls


def test_few_are_synced_one_by_one(tmp_path: Path, synced: list[str]) -> None:
    pending = Pending()
    with Tree(tmp_path) as tree:
        tree.directory("a/b", make=True)
        pending.add_way(tree, "a/b")
        pending.add_way(tree, "a/b")
    pending.sync()
    assert sorted(synced) == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")]
    pending.sync()
    assert len(synced) == 3


def test_many_at_once_and_few_descriptors(tmp_path: Path, synced: list[str]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pending = Pending()
    for n in range(100):
        with open(tmp_path / f"{n}", "wb") as file:
            pending.add(file.fileno())
    assert len(os.listdir("/proc/self/fd")) <= before + FEW + 1
    pending.sync()
    assert synced == ["syncfs"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_for_each_file_system(
    tmp_path: Path, other_file_system: Path, synced: list[str]
) -> None:
    pending = Pending()
    for n in range(20):
        for root in (tmp_path, other_file_system):
            with open(root / f"{n}", "wb") as file:
                pending.add(file.fileno())
    pending.sync()
    assert synced == ["syncfs", "syncfs"]


def test_the_real_syncfs(tmp_path: Path) -> None:
    with Tree(tmp_path) as tree:
        durability._syncfs(tree.descriptor)
    with pytest.raises(OSError) as error:
        durability._syncfs(-1)
    assert error.value.errno == errno.EBADF


def test_a_failure_is_told_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    before = len(os.listdir("/proc/self/fd"))
    pending = Pending()
    with Tree(tmp_path) as tree:
        pending.add(tree.descriptor)
    with pytest.raises(OSError, match="Input/output"):
        pending.sync()
    assert len(os.listdir("/proc/self/fd")) == before
    pending.sync()


def test_switched_off(tmp_path: Path, synced: list[str]) -> None:
    pending = Pending(enabled=False)
    with Tree(tmp_path) as tree:
        pending.add(tree.descriptor)
        pending.add_way(tree, "not/there")
    pending.sync()
    assert synced == []


def test_asking_after_one_file(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as file:
        file.write(b"content")
        durability.require_written(file.fileno())
    with pytest.raises(OSError) as error:
        durability.require_written(-1)
    assert error.value.errno == errno.EBADF


def test_beginning_to_write_one_file(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as file:
        file.write(b"content")
        durability.begin_to_write(file.fileno())
    with pytest.raises(OSError) as error:
        durability.begin_to_write(-1)
    assert error.value.errno == errno.EBADF


def test_a_file_system_that_is_synced_as_a_whole_is_asked_nothing_more(
    tmp_path: Path,
    other_file_system: Path,
    synced: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pending = Pending()
    looks: list[int] = []
    fstat = os.fstat
    monkeypatch.setattr(os, "fstat", lambda fd: (looks.append(fd), fstat(fd))[1])
    for n in range(100):
        with open(tmp_path / f"{n}", "wb", buffering=0) as file:
            device = fstat(file.fileno()).st_dev
            looks.clear()
            pending.add(file.fileno(), device)
        assert bool(looks) == (n <= FEW)
    with open(other_file_system / "a", "wb", buffering=0) as file:
        pending.add(file.fileno(), other_file_system.stat().st_dev)
    pending.sync()
    assert synced == ["syncfs", str(other_file_system / "a")]
