"""The page by which a finder or an ingester is paused and resumed."""

from __future__ import annotations

from typing import Final

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from buffer.admin_pauses import act, row_of
from buffer.desk import desk_view, page
from buffer.models import ComponentKind
from buffer.operator_pauses import Pausable
from buffer.shown import is_text, unescape

_HISTORY: Final = 20
#: What the form may ask for, and whether that is a pause.
_ACTIONS: Final = {"pause": True, "resume": False}


@desk_view("buffer.view_operatorpause", act="buffer.pause")
def pausing(request: HttpRequest) -> HttpResponse:
    """Say who has paused it before; then pause it, or resume it if a pause stands.

    Which one: ``kind``, ``subject`` and, of a finder, ``host``, as `pausing_url` writes them.
    """
    what = _meant(request)
    row = row_of(what)
    if row is None:
        raise Http404
    if request.method == "POST":
        # As the form said that was seen: somebody else may have been faster.
        if (pauses := _ACTIONS.get(request.POST.get("action", ""))) is None:
            raise Http404
        act(request, what, row, pauses=pauses)
        return redirect("admin:index")
    pauses = not what.pauses().standing().exists()
    history = list(what.pauses().order_by("-pk")[: _HISTORY + 1])
    context = {
        "what": what,
        "pauses": pauses,
        "history": history[:_HISTORY],
        "more": len(history) > _HISTORY,
    }
    return page(request, "desk/pausing.html", "Pause" if pauses else "Resume", context)


def pausing_url(kind: str, subject: str, host: str = "") -> str:
    """Give the address of the page for one finder or ingester.

    Parameters
    ----------
    kind, subject, host : `str`
        As of `Pausable`, but the subject as it is shown (`buffer.names.escape`).
    """
    which = {"kind": kind, "subject": subject} | ({"host": host} if host else {})
    return f"{reverse('buffer:pausing')}?{urlencode(which)}"


def _meant(request: HttpRequest) -> Pausable:
    """Read which one is meant from the address; 404 if there can be none."""
    kind, host = request.GET.get("kind", ""), request.GET.get("host", "")
    subject = unescape(request.GET.get("subject", ""))
    if kind not in ComponentKind.values or not is_text(subject + host):
        raise Http404
    return Pausable(ComponentKind(kind), subject, host)
