"""Lists as CSV: for spreadsheets, which take some texts for formulas.

Texts come from file names and messages that anybody may have chosen. What is not printable is
escaped as everywhere else, and a text that a spreadsheet would calculate gets an apostrophe.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from buffer import shown
from buffer.admin_base import ReadOnlyAdmin

#: What a spreadsheet can hold.
MOST: Final = 1_000_000
_FETCHED: Final = 2000
#: What begins a formula, also behind spaces and in the wide form of East Asian scripts.
_FORMULA: Final = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")

Column = tuple[str, Callable[[Any], Any]]


def cell(value: object) -> str:
    """Write a value for a spreadsheet."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool | int | float):
        return str(value)
    text = shown.message(str(value))
    return f"'{text}" if _FORMULA.match(text) else text


def csv_response(
    name: str, columns: Sequence[Column], rows: Iterable[Any]
) -> StreamingHttpResponse:
    """Send rows as they are read, up to `MOST` of them.

    Parameters
    ----------
    name : `str`
        Of the file, without ``.csv``; letters of ours.
    columns : `~collections.abc.Sequence` [`tuple`]
        A heading, and a function that gives the value of a row, for each.
    rows : iterable
        The rows.
    """
    answer = StreamingHttpResponse(_lines(columns, rows), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


class _Line:
    """What `csv.writer` writes to: it gives the line back."""

    def write(self, line: str) -> str:
        return line


def _lines(columns: Sequence[Column], rows: Iterable[Any]) -> Iterator[str]:
    writer: Any = csv.writer(_Line())
    yield writer.writerow([heading for heading, _ in columns])
    source = iter(rows)
    for row in islice(source, MOST):
        yield writer.writerow([cell(value(row)) for _, value in columns])
    if next(source, None) is not None:
        yield writer.writerow([f"Only the first {MOST} rows are here: filter the list."])


if TYPE_CHECKING:
    _Base = ReadOnlyAdmin
else:
    _Base = object


class CsvExport(_Base):
    """Lists whose selected rows can be exported, by whoever may see them."""

    csv_columns: ClassVar[Sequence[Column]]

    @admin.action(description="Export selected as CSV", permissions=["view"])
    def export_csv(self, request: HttpRequest, queryset: QuerySet[Any]) -> StreamingHttpResponse:
        """Send the selected rows."""
        rows = queryset.prefetch_related(None).iterator(_FETCHED)
        return csv_response(str(self.opts.model_name), self.csv_columns, rows)
