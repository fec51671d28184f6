"""Links, renames, and that neither replaces anything."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buffer import placing, steps
from buffer.trees import Tree


class Place:
    def __init__(self, tmp_path: Path) -> None:
        self.here, self.there = tmp_path / "here", tmp_path / "there"
        self.here.mkdir()
        self.there.mkdir()
        self.path = self.here / "file"
        self.path.write_bytes(b"content")
        self.descriptor = os.open(self.path, os.O_RDONLY)
        self.source, self.target = Tree(self.here), Tree(self.there)

    def place(self) -> bool:
        return placing.place(
            self.descriptor, self.source.descriptor, "file", self.target.descriptor, "new"
        )


@pytest.fixture
def spot(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    os.close(made.descriptor)
    made.source.close()
    made.target.close()


def test_link(spot: Place) -> None:
    assert spot.place() is True
    assert (spot.there / "new").samefile(spot.path)


def test_the_descriptor_is_linked_not_the_path(spot: Place) -> None:
    spot.path.rename(spot.here / "moved")
    spot.path.write_bytes(b"swapped")
    spot.place()
    assert (spot.there / "new").read_bytes() == b"content"


def test_a_file_without_a_name(spot: Place) -> None:
    spot.path.unlink()
    with pytest.raises(placing.Swapped):
        spot.place()


def test_rename(spot: Place, refuse_links: Callable[[], None]) -> None:
    refuse_links()
    assert spot.place() is False
    assert (spot.there / "new").read_bytes() == b"content"
    assert not spot.path.exists()


@pytest.mark.parametrize("links", [True, False])
def test_nothing_is_replaced(spot: Place, refuse_links: Callable[[], None], links: bool) -> None:
    (spot.there / "new").symlink_to("dangling")
    if not links:
        refuse_links()
    with pytest.raises(FileExistsError):
        spot.place()
    assert os.readlink(spot.there / "new") == "dangling"
    assert spot.path.read_bytes() == b"content"


@pytest.mark.parametrize("again", [False, True])
def test_what_was_swapped_goes_back(
    spot: Place, refuse_links: Callable[[], None], monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Even if its name is taken once more meanwhile."""
    refuse_links()
    spot.path.rename(spot.here / "moved")
    spot.path.write_bytes(b"swapped")
    if again:
        monkeypatch.setattr(steps, "reached", lambda _: spot.path.write_bytes(b"third"))
    with pytest.raises(placing.Swapped):
        spot.place()
    assert list(spot.there.iterdir()) == []
    found = {path.read_bytes() for path in spot.here.iterdir()}
    assert found == {b"content", b"swapped"} | ({b"third"} if again else set())


def test_other_file_system(spot: Place, other_file_system: Path) -> None:
    with Tree(other_file_system) as target, pytest.raises(placing.CannotPlace):
        placing.place(spot.descriptor, spot.source.descriptor, "file", target.descriptor, "new")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EACCES, errno.ENOSYS])
def test_neither_is_possible(
    spot: Place, refuse_links: Callable[[], None], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refuse_links()

    class Libc:
        @staticmethod
        def renameat2(*_: Any) -> int:
            import ctypes

            ctypes.set_errno(code)
            return -1

    monkeypatch.setattr(placing, "_libc", Libc)
    with pytest.raises(placing.CannotPlace):
        spot.place()
    assert spot.path.exists()


def test_a_full_medium_is_told(spot: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        spot.place()
    assert list(spot.there.iterdir()) == []
