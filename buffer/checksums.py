"""Finding files by their content: whoever has a digest need not know a name."""

from __future__ import annotations

import re
from typing import Final

from django.db import connection, transaction

from buffer.models import File

_DIGEST: Final = re.compile(r"[0-9a-fA-F]{32,128}")


def is_digest(term: str) -> bool:
    """Tell whether a term is a digest; a file's name has a dot."""
    return bool(_DIGEST.fullmatch(term))


def ids_with_checksum(digest: str, most: int) -> list[int]:
    """Find files with a checksum, the oldest first, by the index that is made for it.

    Parameters
    ----------
    digest : `str`
        Hexadecimal, in any case.
    most : `int`
        How many at most.
    """
    files = File.objects.filter(checksum=digest.lower()).order_by("pk").values_list("pk", flat=True)
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                # The planner does not know how much Bloom filters leave out.
                cursor.execute("SET LOCAL enable_seqscan = off")
                cursor.execute("SET LOCAL enable_indexscan = off")
        return list(files[:most])
