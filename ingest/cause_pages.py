"""Pages of failures by their causes."""

from __future__ import annotations

from typing import Final

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from buffer import dialect, shown
from buffer.csv_export import Column, csv_response
from buffer.desk import desk_view, note_of, page, record, user_name
from ingest import cause_board, charts, ignoring
from ingest.cause_board import CauseRow
from ingest.charts import Series
from ingest.figures import last_hours
from ingest.models import IgnoredCause, Ingester

#: Files on the page of one cause.
EXAMPLES: Final = 10
_HISTORY: Final = 20
_COLUMNS: Final[tuple[Column, ...]] = (
    ("cause", lambda row: row["cause"]),
    ("files", lambda row: row["n"]),
    ("first", lambda row: row["first"]),
    ("last", lambda row: row["last"]),
)


def cause_url(ingester_id: int, cause: str) -> str:
    """Give the address of the page of one cause."""
    return f"{reverse('ingest:cause', args=[ingester_id])}?{urlencode({'cause': cause})}"


@desk_view("ingest.view_ingestion")
def overview(request: HttpRequest) -> HttpResponse:
    """Show how many files and causes call for a person, at each ingester."""
    ingesters = list(Ingester.objects.order_by("name"))
    if len(ingesters) == 1:
        return redirect("ingest:causes", ingesters[0].pk)
    counts = cause_board.needing_a_person()
    rows = [(ingester, *counts.get(ingester.pk, (0, 0))) for ingester in ingesters]
    return page(request, "desk/all_causes.html", "Failures by cause", {"rows": rows})


@desk_view("ingest.view_ingestion")
def causes(request: HttpRequest, ingester_id: int) -> HttpResponseBase:
    """Show the causes at one ingester."""
    ingester = get_object_or_404(Ingester, pk=ingester_id)
    containing = request.GET.get("q", "").replace("\0", "").strip()[:200]
    ignored = request.GET.get("ignored") == "1"
    if not shown.is_text(containing):
        containing = ""
    if request.GET.get("format") == "csv":
        rows = cause_board.every_cause(ingester.pk, ignored=ignored, containing=containing)
        return csv_response(f"causes-{ingester.pk}", _COLUMNS, rows)
    found = cause_board.causes(
        ingester.pk, ignored=ignored, containing=containing, number=_number(request.GET.get("page"))
    )
    context = {
        "ingester": ingester,
        "found": found,
        "q": containing,
        "ignored": ignored,
        "others": {"q": containing, "ignored": "1" if ignored else "0"},
    }
    return page(request, "desk/causes.html", f"Failures by cause at {ingester.name}", context)


@desk_view("ingest.view_ingestion", act="ingest.rerun")
def cause(request: HttpRequest, ingester_id: int) -> HttpResponse:
    """Show one cause, and ignore it or take that back.

    Its address is good for as long as somebody may have it: nothing remembers causes of old.
    """
    ingester = get_object_or_404(Ingester, pk=ingester_id)
    text = request.GET.get("cause")
    if text is None or not shown.is_text(text):
        raise Http404
    if request.method == "POST":
        return _decide(request, ingester, text)
    found = cause_board.one_cause(ingester.pk, text)
    decided = IgnoredCause.objects.filter(ingester=ingester, cause=text).order_by("-pk")[:_HISTORY]
    context = {
        "ingester": ingester,
        "cause": text,
        "found": found,
        "chart": None if found is None else _chart(found),
        "standing": ignoring.decision(ingester, text),
        "decided": decided,
        "examples": cause_board.examples(ingester.pk, text, EXAMPLES),
    }
    return page(request, "desk/cause.html", "A cause of failures", context)


def _chart(found: CauseRow) -> SafeString:
    """Draw when files came to stand with a cause."""
    return charts.bars(
        "Files per hour",
        "Files that stand with this cause now, by the hour in which they failed, in the last"
        f" {len(found.hours)} hours: {found.last_day} of {found.count}.",
        [f"{hour:%H}:00" for hour in last_hours(dialect.clock())],
        [Series("files", found.hours)],
        key="occurrences",
    )


def _decide(request: HttpRequest, ingester: Ingester, text: str) -> HttpResponse:
    user, note = user_name(request), note_of(request)
    match request.POST.get("action"):
        case "ignore" if not note:
            messages.error(request, "Say why: a note is needed to ignore a cause.")
        case "ignore" if cause_board.one_cause(ingester.pk, text) is None:
            messages.error(request, "No file stands with this cause.")
        case "ignore":
            done = ignoring.ignore(ingester, text, user=user, note=note)
            _tell(request, ingester, text, done, "ignored", note)
        case "take back":
            done = ignoring.take_back(ingester, text, user=user, note=note)
            _tell(request, ingester, text, done, "no longer ignored", note)
        case _:
            raise Http404
    return redirect(cause_url(ingester.pk, text))


def _tell(
    request: HttpRequest, ingester: Ingester, text: str, done: bool, what: str, note: str
) -> None:
    if not done:
        messages.warning(request, f"The cause was {what} before; nothing has changed.")
        return
    record(request, ingester, f"Cause {what}: {shown.message(text)}. Note: {shown.message(note)}")
    messages.success(request, f"The cause is {what} now.")


def _number(text: str | None) -> int:
    if text is not None and text.isascii() and text.isdigit() and len(text) < 7:
        return max(1, int(text))
    return 1
