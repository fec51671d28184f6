"""Storage areas and their markers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buffer import storages
from buffer.models import Storage
from buffer.names import MARKER_NAME
from buffer.problems import ConfigError
from buffer.storages import NotMounted, open_tree, register

pytestmark = pytest.mark.django_db


def test_marked_once(tmp_path: Path) -> None:
    made = register("files", tmp_path)
    assert (tmp_path / MARKER_NAME).read_text().startswith(str(made.marker))
    assert [path.name for path in tmp_path.iterdir()] == [MARKER_NAME]
    assert register("files", tmp_path) == made
    open_tree(made, tmp_path).close()


def test_marked_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    register("files", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MARKER_NAME]


def test_not_mounted(tmp_path: Path) -> None:
    made = register("files", tmp_path)
    (tmp_path / MARKER_NAME).unlink()
    assert register("files", tmp_path) == made, "it may come back"
    with pytest.raises(NotMounted, match="is its file system mounted"):
        open_tree(made, tmp_path)
    assert not (tmp_path / MARKER_NAME).exists()
    with pytest.raises(NotMounted, match="cannot be opened"):
        open_tree(made, tmp_path / "gone")


def test_moved_with_its_marker(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    made = register("files", old)
    new.mkdir()
    with pytest.raises(NotMounted):
        register("files", new)
    new.rmdir()
    old.rename(new)
    assert register("files", new) == made
    assert Storage.objects.get().root == str(new)


def test_one_directory_for_one_storage(tmp_path: Path) -> None:
    register("files", tmp_path)
    with pytest.raises(ConfigError, match="marked as another storage area than 'more'"):
        register("more", tmp_path)
    assert Storage.objects.count() == 1


def test_the_marker_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(storages, "_write_marker", refuse)
    with pytest.raises(ConfigError, match="Read-only file system"):
        register("files", tmp_path)
    assert not Storage.objects.exists()


def test_begun_and_killed(tmp_path: Path) -> None:
    Storage.objects.create(name="files", root=str(tmp_path))
    made = register("files", tmp_path)
    Storage.objects.update(marked_on=None)
    assert register("files", tmp_path).marker == made.marker
    assert Storage.objects.get().marked_on is not None
