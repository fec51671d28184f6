"""Giving an open file a name in another directory without ever replacing what has that name.

Three ways, each used only where the one before is refused:

1. a hard link of the *open descriptor*: it can neither overwrite nor publish a path that somebody
   swapped since it was read;
2. a rename that refuses to replace (the buffer belongs to another user and the kernel protects
   hard links, or the file system has none), checked afterwards to have moved the right inode;
3. a copy, made and hashed beforehand in the storage's ``.incoming`` directory, then placed by 1
   or 2.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from typing import Final

from buffer import steps

_RENAME_NOREPLACE: Final = 1
_NO_LINK: Final = {errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}
_NO_RENAME: Final = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}

_libc = ctypes.CDLL(None, use_errno=True)


class CannotPlace(OSError):
    """Neither a link nor a rename is possible here: the file has to be copied."""


class Swapped(Exception):
    """The name no longer leads to the file that was read."""


def place(descriptor: int, source_dir: int, name: str, target_dir: int, target: str) -> bool:
    """Give an open file its name in the target directory.

    Parameters
    ----------
    descriptor : `int`
        The file, as it was read and hashed.
    source_dir : `int`
        Descriptor of the directory it lies in.
    name : `str`
        Its name there, for the rename.
    target_dir : `int`
        Descriptor of the directory it shall lie in.
    target : `str`
        Its name there.

    Returns
    -------
    linked : `bool`
        True if it was linked and has its old name too; False if it was moved.

    Raises
    ------
    FileExistsError
        Something has that name already; it is untouched.
    CannotPlace
        The two directories are on different file systems, or neither is possible or allowed.
    Swapped
        The name led to another file; nothing has changed.
    OSError
        The medium failed, is full or read-only.
    """
    try:
        # With a directory descriptor Python uses linkat with AT_SYMLINK_FOLLOW, which follows the
        # "magic link" of the descriptor to the file itself.
        os.link(f"/proc/self/fd/{descriptor}", target, dst_dir_fd=target_dir, follow_symlinks=True)
        return True
    except FileNotFoundError as error:
        # The kernel does not link a file whose last name is gone.
        if os.fstat(descriptor).st_nlink == 0:
            raise Swapped(name) from error
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise CannotPlace(error.errno, error.strerror) from error
        if error.errno not in _NO_LINK:
            raise
    try:
        rename_no_replace(source_dir, name, target_dir, target)
    except FileNotFoundError as error:
        raise Swapped(name) from error
    except PermissionError as error:
        # The buffer may be read but not changed, and perhaps the target can be written.
        raise CannotPlace(error.errno, error.strerror) from error
    steps.reached("renamed")
    if not is_same_file(os.fstat(descriptor), target_dir, target):
        give_back(target_dir, target, source_dir, name)
        raise Swapped(name)
    return False


def give_back(target_dir: int, target: str, source_dir: int, name: str) -> None:
    """Undo a rename; if the name is taken again by now, under another one beside it.

    Parameters
    ----------
    target_dir : `int`
        Descriptor of the directory where the file is.
    target : `str`
        Its name there.
    source_dir : `int`
        Descriptor of the directory where it was.
    name : `str`
        Its name there.

    Raises
    ------
    CannotPlace, OSError
        It cannot be renamed; nothing has changed.
    """
    try:
        rename_no_replace(target_dir, target, source_dir, name)
    except FileExistsError:
        token = f"{secrets.token_hex(4)}-"
        # A name has at most 255 bytes; its end tells the kind of file.
        end = os.fsencode(name)[-(255 - len(token)) :].decode("utf-8", "ignore")
        rename_no_replace(target_dir, target, source_dir, token + end)


def rename_no_replace(source_dir: int, name: str, target_dir: int, target: str) -> None:
    """Rename, or fail if the target exists.

    Raises
    ------
    FileExistsError
        Something has the target's name.
    CannotPlace
        Another file system, or one that cannot refuse to replace.
    OSError
        Any other failure.
    """
    result = _libc.renameat2(
        source_dir, os.fsencode(name), target_dir, os.fsencode(target), _RENAME_NOREPLACE
    )
    if result == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EXDEV or code in _NO_RENAME:
        raise CannotPlace(code, os.strerror(code))
    raise OSError(code, os.strerror(code), name, None, target)


def is_same_file(state: os.stat_result, directory: int, name: str) -> bool:
    """Tell whether a name leads to the file of a given state."""
    there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return (there.st_dev, there.st_ino) == (state.st_dev, state.st_ino)
