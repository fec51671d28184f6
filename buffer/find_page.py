"""The search for a file from the front page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from buffer.admin_search import ids_matching
from buffer.desk import desk_view


@desk_view("buffer.view_file")
def find(request: HttpRequest) -> HttpResponse:
    """Lead to the one file that ``q`` means, or to the list of all that it may mean."""
    term = request.GET.get("q", "").strip()
    ids = ids_matching(term) if term else []
    if len(ids) == 1:
        return redirect("admin:buffer_file_change", ids[0])
    return redirect(f"{reverse('admin:buffer_file_changelist')}?{urlencode({'q': term})}")
