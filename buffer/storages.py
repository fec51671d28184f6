"""Storage areas: their row, and the marker file that proves that they are mounted.

The marker is written once, together with the row. Where it is missing later, the directory is the
empty mount point of a file system that is not there, and nothing may be written below it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from buffer import placing, steps
from buffer.models import Storage
from buffer.names import INCOMING_DIR, MARKER_NAME, escape
from buffer.problems import ConfigError
from buffer.trees import Tree


class NotMounted(Exception):
    """The storage area's marker is not there: its file system is not mounted, or it is another."""


def register(name: str, root: Path, *, fsync: bool = True) -> Storage:
    """Find a storage area by its name, or begin one.

    Parameters
    ----------
    name : `str`
        Its name, ``database.tablenames.file.table`` of the YAML file.
    root : `pathlib.Path`
        Its root directory, which must exist.
    fsync : `bool`, optional
        Make the marker durable.

    Raises
    ------
    ConfigError
        Another storage area has this directory, or this name has another one.
    NotMounted
        It was at another place, and its marker is not at this one.
    """
    root = root.resolve()
    # One transaction: of two components that start together, one finds what the other made.
    with transaction.atomic():
        storage, made = Storage.objects.get_or_create(name=name, defaults={"root": str(root)})
    steps.reached("storage known")
    if storage.marked_on is not None and storage.root == str(root):
        # Marked long ago. If it is not mounted now, that may pass; `open_tree` sees to it.
        return storage
    try:
        with Tree(root) as tree:
            if storage.marked_on is None and read_marker(tree) is None:
                _write_marker(tree, storage, fsync=fsync)
            # At another path than before, the marker proves that it is the same area.
            _check_marker(tree, storage)
    except OSError as error:
        if made:
            storage.delete()
        raise ConfigError(
            f"{escape(root)} cannot be made a storage area: the marker file {MARKER_NAME} cannot be"
            f" written or read there ({error.strerror}). This user needs the right to write in it."
        ) from None
    except ConfigError:
        if made:
            storage.delete()
        raise
    steps.reached("storage marked")
    storage.root = str(root)
    storage.marked_on = storage.marked_on or timezone.now()
    storage.save(update_fields=["root", "marked_on"])
    return storage


def open_tree(storage: Storage, root: Path) -> Tree:
    """Open a storage area for work, proving that it is mounted.

    The tree works below the directory that was proven, even if it is unmounted meanwhile.

    Raises
    ------
    NotMounted
        The directory or its marker is not there.
    """
    try:
        tree = Tree(root)
    except OSError as error:
        raise NotMounted(
            f"the storage area {escape(root)} cannot be opened ({error.strerror}); nothing is"
            " taken in until it can"
        ) from error
    try:
        _check_marker(tree, storage)
    except BaseException:
        tree.close()
        raise
    return tree


def read_marker(tree: Tree) -> str | None:
    """Give the identity that a directory is marked with; None if it is not marked."""
    try:
        descriptor = tree.open_file("", MARKER_NAME)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
        return file.readline().strip()


def _check_marker(tree: Tree, storage: Storage) -> None:
    found = read_marker(tree)
    if found == str(storage.marker):
        return
    where = escape(tree.root)
    if found is None:
        raise NotMounted(
            f"{where} has no marker file {MARKER_NAME}, so it is not the storage area"
            f" '{storage.name}': is its file system mounted? Nothing is written there until the"
            " marker is back. (If the area was moved, move the marker along with it.)"
        )
    raise ConfigError(
        f"{where} is marked as another storage area than '{storage.name}' of this database. Two"
        " storages cannot share a directory. Check finder.storage, database.tablenames.file.table"
        f" and the database; if the mark is a left-over of a database that is gone, remove"
        f" {where}/{MARKER_NAME}."
    )


def _write_marker(tree: Tree, storage: Storage, *, fsync: bool) -> None:
    draft = f"{MARKER_NAME}.{secrets.token_hex(6)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o644, dir_fd=tree.descriptor)
    text = (
        f"{storage.marker}\n"
        f"This directory is the storage area '{storage.name}' of an endpoint buffer manager. Do"
        " not remove this file: without it nothing is taken in.\n"
    )
    try:
        os.write(descriptor, text.encode())
        if fsync:
            os.fsync(descriptor)
        # A marker that another process has just written is not replaced.
        with contextlib.suppress(FileExistsError):
            placing.place(descriptor, tree.descriptor, draft, tree.descriptor, MARKER_NAME)
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=tree.descriptor)
    if fsync:
        os.fsync(tree.descriptor)


def incoming(tree: Tree) -> int:
    """Give the descriptor of the directory for copies that are not complete yet."""
    return tree.lasting(INCOMING_DIR)


def room(path: Path) -> tuple[int | None, int | None]:
    """Tell how many bytes this user may still write, and of how many; None if nobody can tell."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None, None
    used = found.f_blocks - found.f_bfree
    return found.f_bavail * found.f_frsize, (used + found.f_bavail) * found.f_frsize
