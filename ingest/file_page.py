"""What the page of one file has beside its fields: its timeline, its neighbours and its buttons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from buffer.admin_base import ReadOnlyAdmin
from buffer.desk import desk_view, record, user_name
from buffer.models import File
from buffer.verifying import Verdict, verify
from ingest.file_story import neighbours_of, story_of
from ingest.models import Ingester

_LEVELS: Final = {
    Verdict.GOOD: messages.SUCCESS,
    Verdict.BAD: messages.ERROR,
    Verdict.UNKNOWN: messages.WARNING,
}

if TYPE_CHECKING:
    _Base = ReadOnlyAdmin
else:
    _Base = object


class FilePage(_Base):
    """The page of a file, with what an operator can do about it."""

    change_form_template = "admin/ingest/file.html"

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Add neighbours and buttons to the page."""
        answer = super().change_view(request, *args, **kwargs)
        if isinstance(answer, TemplateResponse) and answer.context_data is not None:
            file = answer.context_data.get("original")
            if isinstance(file, File):
                answer.context_data |= {
                    "near": neighbours_of(file),
                    "at": Ingester.objects.filter(storage=file.storage_id).order_by("name"),
                }
        return answer


@desk_view("buffer.view_file", act="buffer.verify")
def verify_now(request: HttpRequest, file_id: int) -> HttpResponse:
    """Read a stored file and compare it with its row."""
    if request.method != "POST":
        raise Http404
    file = get_object_or_404(File.objects.stored().select_related("storage"), pk=file_id)
    found = verify(file, user=user_name(request))
    record(request, file, f"Verified on disk: {found.text}")
    messages.add_message(request, _LEVELS[found.verdict], found.text)
    return redirect("admin:buffer_file_change", file.pk)


def shown_story(file: File, most: int) -> SafeString:
    """Show the way of a file."""
    link = reverse("admin:ingest_fileevent_changelist")
    context = {
        "story": story_of(file, most),
        "most": most,
        "link": f"{link}?{urlencode({'file__id__exact': file.pk})}",
    }
    return SafeString(render_to_string("admin/ingest/story.html", context))
