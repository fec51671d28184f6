"""What all pages of the admin have in common: nothing is edited, and no list counts everything."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.contrib import admin
from django.contrib.admin import helpers
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from buffer import shown
from buffer.counting import AtLeast

if TYPE_CHECKING:
    AnyPaginator = Paginator[Any]
    AnyModelAdmin = admin.ModelAdmin[Any]
else:
    # Only their stubs are generic.
    AnyPaginator, AnyModelAdmin = Paginator, admin.ModelAdmin

#: Lists are counted and paged through up to here; beyond it, filters and the search lead on.
COUNTED: Final = 10_000


class CappedPaginator(AnyPaginator):
    """Pages of a list that may have millions of rows, without a full COUNT."""

    @cached_property
    def count(self) -> int:
        """How many there are, up to `COUNTED`."""
        rows = self.object_list
        assert isinstance(rows, QuerySet)
        counted = rows.order_by()[: COUNTED + 1].count()
        return counted if counted <= COUNTED else AtLeast(COUNTED)


class ReadOnlyAdmin(AnyModelAdmin):
    """Pages to look at: no adding, changing or deleting, whatever rights a user has."""

    list_per_page = 100
    list_max_show_all = 200
    # They would count everything for each choice of each filter.
    show_facets = admin.ShowFacets.NEVER

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        """Nothing is added by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is changed by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is deleted by hand."""
        return False

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Make the list, or have the admin say that a filter has a value that no database takes."""
        try:
            return super().get_changelist_instance(request)
        except (DataError, OverflowError, ValueError) as error:
            # Numbers beyond 64 bits, by SQLite; NUL in a text, by PostgreSQL's driver.
            raise IncorrectLookupParameters(error) from error

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Do an action, unless ids were forged."""
        for text in request.POST.getlist(helpers.ACTION_CHECKBOX_NAME):
            id_of(text)
        return super().response_action(request, *args, **kwargs)


def id_of(text: str | None) -> int:
    """Read the id of a row from what a browser sent.

    Raises
    ------
    Http404
        It cannot be one.
    """
    if text is None or not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Http404
    return int(text)


class BigTableAdmin(ReadOnlyAdmin):
    """Read-only pages of a table that grows for ever."""

    ordering = ("-id",)
    # Other columns have no index to sort by.
    sortable_by = ()
    paginator = CappedPaginator
    show_full_result_count = False


class Since(admin.SimpleListFilter):
    """Rows of the last hours or days."""

    title = "time"
    parameter_name = "since"
    field: ClassVar[str]
    #: Whether ids grow with the field, so that the primary key finds the first row.
    by_id: ClassVar[bool] = True
    _spans: ClassVar = {
        "hour": ("Last hour", timedelta(hours=1)),
        "day": ("Last 24 hours", timedelta(days=1)),
        "week": ("Last 7 days", timedelta(days=7)),
        "month": ("Last 30 days", timedelta(days=30)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Give the choices."""
        return [(key, words) for key, (words, _) in self._spans.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Leave out what is older."""
        span = self._spans.get(self.value() or "")
        if span is None:
            return queryset
        moment = timezone.now() - span[1]
        if self.by_id:
            queryset = queryset.filter(pk__gte=first_id_since(queryset.model, self.field, moment))
        return queryset.filter(**{f"{self.field}__gte": moment})


def first_id_since(model: type[Model], field: str, moment: datetime) -> int:
    """Find the first row that is not older, by halving: the times have no index, the ids do.

    Parameters
    ----------
    model : `type` [`~django.db.models.Model`]
        A table whose ids grow with the time in `field`.
    field : `str`
        Name of the field.
    moment : `~datetime.datetime`
        The time.
    """
    rows = model._default_manager.order_by("pk").values_list("pk", field)
    newest = rows.last()
    if newest is None:
        return 1
    low, high = 1, newest[0] + 1
    while low < high:
        middle = (low + high) // 2
        found = rows.filter(pk__gte=middle).first()
        if found is None or found[1] >= moment:
            high = middle
        else:
            low = found[0] + 1
    return low


#: Signs of what is well, what is not, and what goes on; they help whoever does not see colours.
_SIGNS: Final = {
    "\N{CHECK MARK}": ("SUCCESS", "running"),
    "\N{MULTIPLICATION X}": ("FAILURE", "MISSING", "CHANGED", "CONFLICT", "CHANGED_IN_STORAGE",
                         "STORAGE_FULL", "EIO", "silent", "full", "alert", "lost"),
    "?": ("UNKNOWN",),
    "!": ("INVALID", "UNREADABLE", "VANISHED", "BAD_NAME", "NOT_REGULAR", "paused", "waits"),
    "\N{BLACK RIGHT-POINTING TRIANGLE}": ("PENDING",),
    "\N{CLOCKWISE OPEN CIRCLE ARROW}": ("RERUN",),
    "\N{WHITE CIRCLE}": ("UNTRIED", "IGNORED"),
    "\N{BLACK SQUARE}": ("BACKFILL", "stopped"),
    "=": ("DUPLICATE",),
}  # fmt: skip
_SIGN_OF: Final = {word: sign for sign, words in _SIGNS.items() for word in words}


def badge(word: str) -> SafeString:
    """Show a status by its word, a colour and a sign."""
    return format_html(
        '<span class="badge badge-{}"><span aria-hidden="true">{}</span> {}</span>',
        word,
        _SIGN_OF.get(word, "\N{BULLET}"),
        word,
    )


def printable(field: str) -> Callable[[Any, Any], str]:
    """Make a method of an admin that shows a text of others, safely.

    Parameters
    ----------
    field : `str`
        Its name.
    """

    @admin.display(description=field.replace("_", " "))
    def column(_: Any, row: Any) -> str:
        return shown.message(getattr(row, field))

    return column


def preformatted(text: str) -> SafeString | str:
    """Show a message as it was written, and nothing but that."""
    return format_html('<pre class="message">{}</pre>', shown.message(text)) if text else "-"


def as_text(settings: Any) -> str:
    """Write settings down for a person, without their secrets."""
    return json.dumps(shown.settings(settings), indent=2, ensure_ascii=False) if settings else ""
