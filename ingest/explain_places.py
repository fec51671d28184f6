"""What a path that somebody asks about may mean: which files, which refusals, where to look."""

from __future__ import annotations

import os
from typing import Final

from django.db.models import Q

from buffer.checksums import ids_with_checksum, is_digest
from buffer.models import File, Refusal, Storage
from buffer.names import escape
from buffer.shown import is_text, unescape
from ingest import explain_buffers
from ingest.explain_buffers import Finder

_SOME: Final = 20


class Places:
    """Where a path may lead: below every storage area and every buffer that is known.

    Parameters
    ----------
    path : `str`
        Absolute, or relative to a storage area or a buffer, or a bare name. Names may be escaped
        as the program shows them. A checksum means the files that have it.

    Attributes
    ----------
    storages : `list` [`Storage`]
        All storage areas, by name.
    finders : `list` [`Finder`]
        All finders that are known.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.storages: list[Storage] = list(Storage.objects.order_by("name"))
        self.finders: list[Finder] = explain_buffers.known_finders()
        roots = [*(one.root for one in self.storages), *(one.root for one in self.finders)]
        self._below = {root: _below(root, path) for root in roots}

    @property
    def any_known(self) -> bool:
        """Whether there is any storage area or buffer."""
        return bool(self._below)

    def files(self) -> list[File]:
        """Give the tracked files that the path names, newest first."""
        places = Q()
        for storage in self.storages:
            # A buffer's files go to the same place below the storage: its paths are tried as well.
            for relative in dict.fromkeys(rel for found in self._below.values() for rel in found):
                if not is_text(relative):
                    continue
                directory, _, name = relative.rpartition("/")
                places |= Q(storage=storage, relpath=directory, filename=name)
        if "/" not in self.path:
            names = [name for name in {self.path, unescape(self.path)} if is_text(name)]
            places |= Q(filename__in=names)
        if is_digest(self.path):
            places |= Q(pk__in=ids_with_checksum(self.path, _SOME))
        if not places:
            return []
        files = File.objects.filter(places).select_related("storage").order_by("-id")
        return list(files[:_SOME])

    def refusals(self) -> list[Refusal]:
        """Give the refusals of the path, newest first."""
        places = Q()
        for finder in self.finders:
            escaped = [escape(relative) for relative in self._below[finder.root]]
            if escaped:
                places |= Q(source=str(finder.section.source), path__in=escaped)
        if not os.path.isabs(self.path):
            # Finders that have not run for a week are forgotten; their refusals are not.
            spelled = [text for text in {self.path, escape(self.path)} if is_text(text)]
            places |= Q(path__in=spelled)
        if not places:
            return []
        rows = Refusal.objects.filter(places).select_related("storage")
        return list(rows.order_by("-last_seen")[:_SOME])

    def in_buffer(self, finder: Finder) -> list[str]:
        """Of several readings below a buffer, give the one that is there, else what was typed."""
        relatives = self._below[finder.root]
        there = [rel for rel in relatives if os.path.lexists(os.path.join(finder.root, rel))]
        return (there or relatives)[:1]

    def in_storage(self, storage: Storage) -> list[str]:
        """Give where in a storage area the file would be, if the path leads there."""
        roots = [storage.root, *(one.root for one in self.finders if one.storage_id == storage.pk)]
        return [rel for root in roots for rel in self._below[root]][:1]


def _below(root: str, path: str) -> list[str]:
    """Give what a path may mean below a root: nothing if it is elsewhere."""
    found = []
    for spelled in dict.fromkeys((path, unescape(path))):
        # As typed, and with the links on the way to it resolved, but not the file itself.
        head, name = os.path.split(os.path.abspath(spelled))
        real = os.path.join(os.path.realpath(head), name)
        for whole in (os.path.abspath(spelled), real):
            for top in (root, os.path.realpath(root)):
                if whole.startswith(top.rstrip("/") + "/"):
                    found.append(os.path.relpath(whole, top))
        if not os.path.isabs(spelled):
            relative = os.path.normpath(spelled)
            if relative != "." and not relative.startswith("../") and relative != "..":
                found.append(relative)
    return list(dict.fromkeys(found))
