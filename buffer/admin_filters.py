"""Filters of the lists, each with an index behind it, whatever the size of a table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Final

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from buffer.admin_base import COUNTED, first_id_since
from buffer.admin_search import begins, of_files, say_if_cut
from buffer.models import File, Storage
from buffer.shown import is_text, unescape

_DAY: Final = timedelta(days=1)
_MB: Final = 1_000_000


def is_alone(request: HttpRequest, name: str) -> bool:
    """Tell whether a filter is the only one: what it cuts off is beyond the end of the list."""
    return set(request.GET) <= {name, "p", "all"}


class Ended(admin.SimpleListFilter):
    """Whether something is over: a field says since when, and is empty until then."""

    title = "state"
    parameter_name = "state"
    field: ClassVar[str]
    #: The values for what is not over and for what is, with how they are shown.
    states: ClassVar[tuple[tuple[str, str], tuple[str, str]]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Give the choices."""
        return list(self.states)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Leave out the others."""
        (standing, _), (over, _) = self.states
        if self.value() in (standing, over):
            return queryset.filter(**{f"{self.field}__isnull": self.value() == standing})
        return queryset


class TypedFilter(admin.SimpleListFilter):
    """A filter whose value is typed."""

    template = "admin/buffer/typed_filter.html"
    input_type: ClassVar[str] = "text"
    placeholder: ClassVar[str] = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Give no choices."""
        return []

    def has_output(self) -> bool:
        """Show it all the same."""
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Give what its form needs."""
        kept = changelist.get_query_string(remove=[self.parameter_name])
        others = changelist.get_filters_params()
        if changelist.query:
            others = {**others, "q": [changelist.query]}
        yield {
            "others": [
                (name, value)
                for name, values in others.items()
                if name != self.parameter_name
                for value in (values if isinstance(values, list) else [values])
            ],
            "value": self.value() or "",
            "without": kept,
        }


class Day(TypedFilter):
    """Rows of one day, UTC."""

    title = "day (UTC)"
    parameter_name = "day"
    input_type = "date"
    #: A time with which ids grow: the primary key's, or that of the table which `key` refers to.
    field: ClassVar[str]
    key: ClassVar[str] = "pk"
    of: ClassVar[type[Model] | None] = None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Leave out other days."""
        if not (value := self.value()):
            return queryset
        if (ids := ids_of_day(self.of or queryset.model, self.field, value)) is None:
            return queryset.none()
        begin, end = ids
        return queryset.filter(**{f"{self.key}__gte": begin, f"{self.key}__lt": end})


def as_day(text: str) -> tuple[datetime, datetime] | None:
    """Give the begin of a day and of the next, UTC; None if it is no date."""
    try:
        day = datetime.combine(date.fromisoformat(text), datetime.min.time(), tzinfo=UTC)
        return day, day + _DAY
    except (ValueError, OverflowError):
        return None


def ids_of_day(model: type[Model], field: str, text: str) -> tuple[int, int] | None:
    """Give the first id of a day and that of the next; None if the text is no date."""
    if (day := as_day(text)) is None:
        return None
    begin, end = (first_id_since(model, field, moment) for moment in day)
    return begin, end


class Directory(TypedFilter):
    """Files of one directory below the storage root, and of those in it."""

    title = "directory"
    parameter_name = "directory"
    placeholder = "below the storage root"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Leave out the others."""
        term = (self.value() or "").strip()
        if not term:
            return queryset
        say_if_cut(request, ids := ids_below(term))
        return self.restrict(queryset, ids)

    def restrict(self, queryset: QuerySet[Any], ids: list[int]) -> QuerySet[Any]:
        """Leave out other files."""
        return queryset.filter(pk__in=ids)


class DirectoryOfFile(Directory):
    """Rows that belong to files of one directory."""

    def restrict(self, queryset: QuerySet[Any], ids: list[int]) -> QuerySet[Any]:
        """Leave out rows of other files."""
        return of_files(queryset, ids)


def ids_below(directory: str) -> list[int]:
    """Find the files in a directory, at any depth.

    By the index of places and not more than a list counts, in the order of that index: planners
    take a condition on places for a reason to read all files by their ids.

    Parameters
    ----------
    directory : `str`
        Absolute, or below a storage root; escaped names are understood.
    """
    found: list[int] = []
    for storage in Storage.objects.all():
        for path in _below(directory, storage.root):
            files = File.objects.filter(storage=storage).order_by("relpath", "filename")
            if path:
                beneath = files.filter(begins("relpath", f"{path}/"))
                parts = [files.filter(relpath=path), beneath]
            else:
                parts = [files]
            for part in parts:
                found += part.values_list("pk", flat=True)[: COUNTED + 1 - len(found)]
    return found


def _below(directory: str, root: str) -> list[str]:
    """Give the path below a storage root that was meant, in the ways in which it can be read."""
    root = root.rstrip("/")
    paths = []
    for spelled in dict.fromkeys((directory, unescape(directory))):
        path = spelled.rstrip("/")
        if path == root or path.startswith(f"{root}/"):
            path = path[len(root) + 1 :]
        if is_text(path):
            paths.append(path.strip("/"))
    return paths


class Size(admin.SimpleListFilter):
    """How large files are."""

    title = "size"
    parameter_name = "size"
    _ranges: ClassVar = {
        "0": ("Empty", 0, 1),
        "small": ("Under 1 MB", 1, _MB),
        "1M": ("1 to 10 MB", _MB, 10 * _MB),
        "10M": ("10 to 100 MB", 10 * _MB, 100 * _MB),
        "100M": ("100 MB to 1 GB", 100 * _MB, 1000 * _MB),
        "1G": ("1 GB and more", 1000 * _MB, None),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Give the choices."""
        return [(key, words) for key, (words, _, _) in self._ranges.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Leave out the others."""
        if (chosen := self._ranges.get(self.value() or "")) is None:
            return queryset
        _, least, beyond = chosen
        queryset = queryset.filter(size_bytes__gte=least)
        return queryset if beyond is None else queryset.filter(size_bytes__lt=beyond)
