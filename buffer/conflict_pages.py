"""Pages of the collision desk."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from buffer.admin_base import CappedPaginator
from buffer.conflict_desk import (
    CannotDecide,
    compare_headers,
    decide,
    is_open_conflict,
    standing,
    take_back,
)
from buffer.desk import desk_view, note_of, page, record, user_name
from buffer.models import Choice, Component, ComponentKind, Decision, Refusal, RefusalReason
from buffer.sidecars import proposed_name, sidecar_of

_PER_PAGE: Final = 50
_HISTORY: Final = 20
_WORDS: Final = {
    Choice.KEEP_STORED: "keep the stored file and set the arrival aside",
    Choice.KEEP_BOTH: "keep both",
    Choice.LATER: "decide later",
}


@desk_view("buffer.view_refusal")
def conflicts(request: HttpRequest) -> HttpResponse:
    """List the conflicts that stand."""
    rows = (
        Refusal.objects.unresolved()
        .filter(reason=RefusalReason.CONFLICT)
        .annotate(decided=Exists(Decision.objects.standing().filter(refusal=OuterRef("pk"))))
        .order_by("-pk")
    )
    pages: Paginator[Any] = CappedPaginator(rows, _PER_PAGE)
    shown = pages.get_page(request.GET.get("page"))
    return page(request, "desk/conflicts.html", "Conflicts", {"shown": shown})


@desk_view("buffer.view_refusal", act="buffer.resolve_conflict")
def conflict(request: HttpRequest, refusal_id: int) -> HttpResponse:
    """Show an arrival and a stored file side by side, and decide."""
    refusals = Refusal.objects.select_related("file", "storage")
    refusal = get_object_or_404(refusals, pk=refusal_id)
    decisions = Decision.objects.filter(refusal=refusal)
    if refusal.reason != RefusalReason.CONFLICT and not decisions.exists():
        raise Http404
    if request.method == "POST":
        return _act(request, refusal)
    context = {
        "refusal": refusal,
        "open": is_open_conflict(refusal),
        "headers": compare_headers(refusal) if refusal.resolved_on is None else None,
        "decision": standing(refusal),
        "decisions": decisions.order_by("-pk")[:_HISTORY],
        "new_name": proposed_name(refusal),
        "sidecar": sidecar_of(refusal),
        "no_aside": _has_no_aside(refusal),
    }
    return page(request, "desk/conflict.html", "A conflict", context)


def _act(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    action, user = request.POST.get("action", ""), user_name(request)
    if action == "TAKE_BACK":
        decision = standing(refusal)
        if decision is not None and take_back(decision, user=user):
            record(request, refusal, f"Decision {decision.choice} taken back")
            messages.success(request, "The decision is taken back.")
        else:
            messages.warning(request, "There is nothing left to take back.")
        return redirect("buffer:conflict", refusal.pk)
    if action not in Choice.values:
        raise Http404
    if request.POST.get("checksum") != refusal.checksum:
        messages.error(request, "The arrival has changed since this page was shown: look again.")
        return redirect("buffer:conflict", refusal.pk)
    choice, note = Choice(action), note_of(request)
    new_name = request.POST.get("new_name", "")[:1000]
    try:
        decision = decide(refusal, choice, user=user, note=note, new_name=new_name)
    except CannotDecide as error:
        messages.error(request, f"Nothing was decided: {error}.")
    else:
        record(request, refusal, f"Decided to {_WORDS[choice]}. Note: {note}")
        text = "the finder carries it out with its next cycles" if not decision.done_on else "noted"
        messages.success(request, f"Decided to {_WORDS[choice]}: {text}.")
    return redirect("buffer:conflict", refusal.pk)


def _has_no_aside(refusal: Refusal) -> bool:
    """Tell whether the finder, as it was last started, cannot set anything aside."""
    finders = Component.objects.filter(kind=ComponentKind.FINDER, subject=refusal.source)
    settings = finders.order_by("-pk").values_list("settings", flat=True).first()
    section = (settings or {}).get("finder", settings or {})
    return bool(settings) and not section.get("duplicates")
