"""What all pages have in common by which an operator acts: who may, how they look, what is logged.

They stand beside the admin's own pages and are guarded as those are: whoever is not logged in is
asked to, whoever may not gets 403, a form without our token gets 403.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, cast

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods

View = Callable[..., HttpResponseBase]

#: How long a note of an operator may be.
NOTE_CHARS: Final = 2000
_USER_CHARS: Final = 150


def desk_view(see: str, act: str = "") -> Callable[[View], View]:
    """Make a function a page that needs permissions.

    Parameters
    ----------
    see : `str`
        Permission to look at it.
    act : `str`, optional
        Permission to send its form, besides; without one, there is no form.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            wanted = [see, act] if request.method == "POST" else [see]
            if not request.user.has_perms(wanted):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        methods = ["GET", "HEAD", "POST"] if act else ["GET", "HEAD"]
        return admin.site.admin_view(require_http_methods(methods)(guarded))

    return decorate


def page(
    request: HttpRequest, template: str, title: str, context: Mapping[str, Any]
) -> TemplateResponse:
    """Show a page in the frame of the admin."""
    frame = admin.site.each_context(request)
    everything = {**frame, "title": title, "note_chars": NOTE_CHARS, **context}
    return TemplateResponse(request, template, everything)


def user_name(request: HttpRequest) -> str:
    """Give the name under which history remembers who asked."""
    return request.user.get_username()[:_USER_CHARS]


def note_of(request: HttpRequest) -> str:
    """Give the note that was sent with a form."""
    # No database takes a NUL in a text.
    return request.POST.get("note", "").replace("\0", "").strip()[:NOTE_CHARS]


def record(request: HttpRequest, row: Model, text: str) -> None:
    """Note in the log of the admin that somebody did something about a row."""
    LogEntry.objects.create(
        user_id=cast(int, request.user.pk),
        content_type=ContentType.objects.get_for_model(row),
        object_id=str(row.pk),
        object_repr=str(row)[:200],
        action_flag=CHANGE,
        change_message=text,
    )
