"""Finding files by what an operator has at hand: a name, its beginning, a path, an id, a digest."""

from __future__ import annotations

import re

from django.db import connection
from django.db.models import Q

from buffer.models import File, Storage
from buffer.shown import is_text, unescape

_DIGEST = re.compile(r"[0-9a-fA-F]{32,128}")
#: Sorts after every character of a name.
_LAST = "\U0010ffff"


def files_matching(term: str) -> Q:
    """Give the condition for files that a search means.

    Parameters
    ----------
    term : `str`
        An id, a checksum, the beginning of a name, a directory, or a path (absolute, or below a
        storage root) or the beginning of one. Escaped names are understood.

    Returns
    -------
    condition : `~django.db.models.Q`
        On `File`. Every part of it has an index, except that of checksums.
    """
    if not is_text(term):
        return Q(pk__in=[])
    storages = list(Storage.objects.all())
    if _DIGEST.fullmatch(term):
        # Nobody's file name: 32 hexadecimal digits and no dot.
        return Q(checksum=term.lower()) | Q(filename=term)
    condition = Q()
    for spelled in dict.fromkeys((term, unescape(term))):
        if not is_text(spelled):
            continue
        for storage in storages:
            root = storage.root.rstrip("/") + "/"
            below = spelled.removeprefix(root) if spelled.startswith(root) else spelled
            directory, _, name = below.rpartition("/")
            # The storage comes first in the index of places.
            here = Q(storage=storage)
            if below.strip("/"):
                condition |= here & Q(relpath=below.rstrip("/"))
            if "/" in below:
                condition |= here & Q(relpath=directory) & _begins(name)
        if "/" not in spelled:
            condition |= _begins(spelled)
    if term.isascii() and term.isdigit() and len(term) < 19:
        condition |= Q(pk=int(term))
    return condition or Q(pk__in=[])


def _begins(prefix: str) -> Q:
    if connection.vendor == "sqlite":
        # LIKE ignores case there and uses no index; the order of names is that of their code
        # points.
        return Q(filename__gte=prefix, filename__lt=prefix + _LAST)
    return Q(filename__startswith=prefix)


def matching_ids(term: str) -> Q:
    """Give the condition for rows that belong to a file that a search means."""
    return Q(file__in=File.objects.filter(files_matching(term)).values("pk"))
