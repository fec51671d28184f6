"""Names of files: how they are shown, which are refused, which are temporary.

A file name is bytes chosen by somebody else.  Within the program it is text as `os.fsdecode`
gives it (bytes that are no UTF-8 become lone surrogates), and everything that leaves the program
for a person's eyes goes through `escape` first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Final

INCOMING_DIR: Final = ".incoming"
"""Directory at the top of a storage area where copies wait until they are complete."""

MARKER_NAME: Final = ".endpoint-storage"
"""File at the top of a storage area that proves that the storage is mounted."""

RESERVED_NAMES: Final = frozenset({INCOMING_DIR, MARKER_NAME})
"""Names at the top of a storage area that belong to the program."""

TEMPORARY_DIRS: Final = frozenset({".~tmp~", ".rsync-partial"})
"""Directories of half-written files: rsync's `--delay-updates` and the usual `--partial-dir`."""

TEMPORARY_SUFFIXES: Final = (".part", ".partial", ".tmp")

SIDECAR: Final = ".json"
"""End of the name of a file that describes others: ``X.json`` all that are named ``X.*``."""

MAX_RELPATH_BYTES: Final = 2000
MAX_NAME_BYTES: Final = 255

# rsync writes `.name.XXXXXX` (mkstemp's alphabet) and renames it when it is complete.
_RSYNC_TEMPORARY = re.compile(r"\..+\.[A-Za-z0-9]{6}", re.DOTALL)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# Almost every name is plain; then there is nothing to look at character by character.
_PLAIN = re.compile(r"[ -\[\]-~]*")


def escape(name: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    r"""Make a file name or path safe to show.

    Whatever is not printable (control and bidi characters, line separators, bytes that are no
    UTF-8, characters unknown to Unicode) and the backslash become ``\xNN``, ``\uNNNN`` or
    ``\UNNNNNNNN``.  Letters of any script and spaces stay.

    Parameters
    ----------
    name : `str`, `bytes` or `os.PathLike`
        The name as the file system has it.

    Returns
    -------
    shown : `str`
        Printable text of one line that UTF-8 can encode.  Two different names never look the
        same, since the backslash itself is escaped.
    """
    text = os.fspath(name)
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        char if char != "\\" and char.isprintable() else _escape_char(char) for char in text
    )


def _escape_char(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def why_bad(relpath: str, filename: str) -> str | None:
    """Say why a file of this name can not be taken in.

    Parameters
    ----------
    relpath : `str`
        Directory below the root, separated by ``/``; empty at the top.
    filename : `str`
        The last part of the path.

    Returns
    -------
    reason : `str` or `None`
        Why the name is refused, for an operator; `None` if it is a good one.
    """
    parts = [*relpath.split("/"), filename] if relpath else [filename]
    path = "/".join(parts)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    if (control := _CONTROL.search(path)) is not None:
        return f"the name has the control character {_escape_char(control[0])}"
    if path.startswith("/"):
        return "the path is absolute"
    if "/" in filename:
        return "the file name has a slash"
    if (reason := _why_bad_part(parts)) is not None:
        return reason
    if parts[0] in RESERVED_NAMES:
        return f"{parts[0]} at the top of the storage is reserved"
    if (length := len(relpath.encode("utf-8"))) > MAX_RELPATH_BYTES:
        return f"the directory's path has {length} bytes, more than {MAX_RELPATH_BYTES}"
    return None


def _why_bad_part(parts: Iterable[str]) -> str | None:
    for part in parts:
        if not part:
            return "a part of the path is empty"
        if part in (".", ".."):
            return f"the path has the part '{part}'"
        if (length := len(part.encode("utf-8"))) > MAX_NAME_BYTES:
            return f"a part of the path has {length} bytes, more than {MAX_NAME_BYTES}"
    return None


def is_temporary(relpath: str, filename: str) -> bool:
    """Tell if a name is one that writers give to what they have not finished.

    Parameters
    ----------
    relpath : `str`
        Directory below the root, separated by ``/``; empty at the top.
    filename : `str`
        The last part of the path.

    Returns
    -------
    temporary : `bool`
        True for ``.name.XXXXXX``, ``*.part``, ``*.partial``, ``*.tmp`` and for everything in a
        directory ``.~tmp~`` or ``.rsync-partial``.
    """
    return is_temporary_name(filename) or not TEMPORARY_DIRS.isdisjoint(relpath.split("/"))


def is_temporary_name(filename: str) -> bool:
    """Tell by the last part of a path alone if it is temporary; see `is_temporary`."""
    if filename.endswith(TEMPORARY_SUFFIXES):
        return True
    return filename.startswith(".") and _RSYNC_TEMPORARY.fullmatch(filename) is not None


def stems(filename: str) -> Iterator[str]:
    """Give each X for which a sidecar ``X.json`` describes a file, the shortest first."""
    end = filename.find(".", 1)
    while end != -1:
        yield filename[:end]
        end = filename.find(".", end + 1)
