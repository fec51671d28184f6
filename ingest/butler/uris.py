"""Paths as the Butler writes them, and whether two of them mean the same file."""

from __future__ import annotations

import os
import urllib.parse

from lsst.resources import ResourcePath


def to_uri(path: str | os.PathLike[str] | ResourcePath) -> ResourcePath:
    """Return the URI of a local file.

    Parameters
    ----------
    path : `str`, `os.PathLike` or `lsst.resources.ResourcePath`
        An absolute path, taken literally.

    Returns
    -------
    uri : `lsst.resources.ResourcePath`
        Its ``file`` URI.
    """
    if isinstance(path, ResourcePath):
        return path
    # Given a plain path, ResourcePath takes what follows a "#" for a fragment and leaves "%41"
    # as it is, so that it would later mean "A": quote it here.
    quoted = urllib.parse.quote(os.fsencode(os.path.abspath(path)))
    return ResourcePath(f"file://{quoted}", forceDirectory=False)


def why_no_file(path: str) -> str | None:
    """Say why a path cannot be ingested whatever its content; `None` if it can."""
    try:
        path.encode()
    except UnicodeEncodeError:
        # URIs are UTF-8: the repository would record a name that no file has.
        return "the file's name is not valid UTF-8; the Butler cannot record it"
    # A task would search a directory for files and ingest them all.
    if os.path.isfile(path):
        return None
    return "not a regular file" if os.path.lexists(path) else "the file is missing"


def same_file(stored: ResourcePath, ours: ResourcePath, transfer: str | None) -> bool:
    """Tell whether a repository's file is the one that we hold.

    Parameters
    ----------
    stored, ours : `lsst.resources.ResourcePath`
        What the repository recorded, and the file that is to be ingested.
    transfer : `str` or `None`
        How files get into the repository.  After ``direct`` the repository names our own path,
        so another path is another file, whatever it contains.  The other ways leave a link or a
        copy below the repository, which is compared with ours.

    Returns
    -------
    same : `bool`
        `True` if ingesting our file again would change nothing.
    """
    if stored == ours:
        return True
    if not (stored.isLocal and ours.isLocal):
        return False
    if os.path.realpath(stored.ospath) == os.path.realpath(ours.ospath):
        return True
    if transfer == "direct":
        return False
    return same_bytes(stored, ours)


def same_bytes(one: ResourcePath, other: ResourcePath) -> bool:
    """Compare two local files' contents; a file that cannot be read equals nothing."""
    block = 1 << 20
    try:
        if os.path.samefile(one.ospath, other.ospath):
            return True
        if os.path.getsize(one.ospath) != os.path.getsize(other.ospath):
            return False
        with open(one.ospath, "rb") as left, open(other.ospath, "rb") as right:
            while True:
                chunk = left.read(block)
                if chunk != right.read(block):
                    return False
                if not chunk:
                    return True
    except OSError:
        return False
