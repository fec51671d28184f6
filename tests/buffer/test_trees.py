"""Directory trees: no links followed, descriptors bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buffer.trees import Tree


def test_makes_what_is_missing(tmp_path: Path) -> None:
    with Tree(tmp_path) as tree:
        with pytest.raises(FileNotFoundError):
            tree.directory("a/b")
        descriptor = tree.directory("a/b/c", make=True)
        assert os.fstat(descriptor).st_ino == (tmp_path / "a/b/c").stat().st_ino
        assert tree.directory("a/b/c") == descriptor
        assert tree.directory("") == tree.descriptor


def test_the_root_may_be_a_link_but_nothing_below(tmp_path: Path) -> None:
    (tmp_path / "real/sub").mkdir(parents=True)
    (tmp_path / "real/sub/file").write_bytes(b"x")
    (tmp_path / "root").symlink_to("real")
    (tmp_path / "real/link").symlink_to("sub")
    (tmp_path / "real/file").symlink_to("sub/file")
    with Tree(tmp_path / "root") as tree:
        os.close(tree.open_file("sub", "file"))
        for make in (False, True):
            with pytest.raises(NotADirectoryError):
                tree.directory("link", make=make)
            with pytest.raises(NotADirectoryError):
                tree.directory("link/below", make=make)
        with pytest.raises(OSError, match="symbolic links"):
            tree.open_file("", "file")
        assert tree.stat("", "file").st_size == len("sub/file")


def test_a_directory_that_becomes_a_link(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with Tree(tmp_path) as tree:
        before = tree.directory("d")
        (tmp_path / "d").rename(tmp_path / "was")
        (tmp_path / "d").symlink_to("/etc")
        assert tree.directory("d") == before
        tree.forget()
        with pytest.raises(NotADirectoryError):
            tree.directory("d")


def test_few_descriptors(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Tree(tmp_path) as tree:
        lasting = tree.lasting("keep")
        for n in range(200):
            tree.directory(f"{n}/a/b", make=True)
        assert len(os.listdir("/proc/self/fd")) < before + 70
        tree.forget()
        assert os.fstat(lasting).st_ino == (tmp_path / "keep").stat().st_ino
        assert tree.lasting("keep") == lasting
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with Tree(tmp_path) as tree:
        os.close(tree.open_file("", "fifo"))
