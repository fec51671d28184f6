"""Finding files by what an operator has at hand: a name, its beginning, a path, an id, a digest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from django.contrib import messages
from django.db import connection
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest

from buffer.admin_base import COUNTED
from buffer.checksums import ids_with_checksum, is_digest
from buffer.models import File, Storage
from buffer.shown import is_text, unescape

AnyModel = TypeVar("AnyModel", bound=Model)

#: Sorts after every character of a name.
_LAST = "\U0010ffff"


def ids_matching(term: str) -> list[int]:
    """Find the files that a search means.

    Each way in which a term can be read is looked up by itself, in the order of an index and not
    further than a list counts: planners take "this or that, the newest first" for a reason to read
    all files by their ids.

    Parameters
    ----------
    term : `str`
        An id, a checksum, the beginning of a name, a directory, or a path (absolute, or below a
        storage root) or the beginning of one. Escaped names are understood.
    """
    found: dict[int, None] = {}
    if is_digest(term):
        found |= dict.fromkeys(ids_with_checksum(term, COUNTED + 1))
    for condition, order in _readings(term):
        files = File.objects.filter(condition).order_by(*order).values_list("pk", flat=True)
        found |= dict.fromkeys(files[: COUNTED + 1])
    return list(found)[: COUNTED + 1]


def of_files(rows: QuerySet[AnyModel], ids: list[int]) -> QuerySet[AnyModel]:
    """Give those rows that belong to some files, not more of them than a list counts.

    They are looked up first and sorted afterwards, for the same reason.
    """
    found = rows.order_by().filter(file_id__in=ids).values_list("pk", flat=True)
    return rows.filter(pk__in=list(found[: COUNTED + 1]))


def say_if_cut(request: HttpRequest, ids: list[int]) -> None:
    """Tell the user that other filters see the first files only, if there are more."""
    if len(ids) > COUNTED:
        text = f"More than {COUNTED} files match: only the first of them, by name, are looked at."
        messages.warning(request, text, fail_silently=True)


def _readings(term: str) -> Iterator[tuple[Q, Sequence[str]]]:
    """Give the conditions that a term may stand for, each with the order of its index."""
    if not is_text(term):
        return
    if is_digest(term):
        yield Q(filename=term), ["filename"]
        return
    if term.isascii() and term.isdigit() and len(term) < 19:
        yield Q(pk=int(term)), ["pk"]
    storages = list(Storage.objects.all())
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
                yield here & Q(relpath=below.rstrip("/")), ["filename"]
            if "/" in below:
                yield here & Q(relpath=directory) & begins("filename", name), ["filename"]
        if "/" not in spelled:
            yield begins("filename", spelled), ["filename"]


def begins(field: str, prefix: str) -> Q:
    """Give the condition for texts that begin with another.

    Parameters
    ----------
    field : `str`
        Name of the field.
    prefix : `str`
        Their beginning; case matters.
    """
    # LIKE ignores case on SQLite, and uses no index there; on PostgreSQL it uses none unless the
    # collation is called C.
    span = Q(**{f"{field}__gte": prefix, f"{field}__lt": prefix + _LAST})
    if connection.vendor == "sqlite":
        return span
    exact = Q(**{f"{field}__startswith": prefix})
    return exact & span if _sorts_by_code_points() else exact


def _sorts_by_code_points() -> bool:
    """Tell whether the database sorts texts as Python does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT datcollate FROM pg_database WHERE datname = current_database()")
        (collation,) = cursor.fetchone()
    return collation.upper() in ("C", "POSIX", "C.UTF-8", "C.UTF8")
