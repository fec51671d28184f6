"""Pausing and resuming from the admin: a page that asks why, then the deed; and what was done."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from buffer import operator_pauses
from buffer.admin_base import BigTableAdmin, ReadOnlyAdmin, preformatted, printable
from buffer.admin_filters import Ended
from buffer.desk import note_of, record, user_name
from buffer.models import OperatorPause
from buffer.names import escape
from buffer.operator_pauses import NOTE_CHARS, Pausable


class PausableAdmin(ReadOnlyAdmin):
    """Pages whose rows can be paused and resumed, by users with ``buffer.pause``."""

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may pause and resume."""
        return bool(request.user.has_perm("buffer.pause"))

    def pausable(self, row: Any) -> Pausable | None:
        """Give the finder or ingester that a row stands for."""
        raise NotImplementedError

    def newest_of(self, what: Pausable) -> Model | None:
        """Give the newest row that may stand for a finder or ingester, for `row_of`."""
        raise NotImplementedError

    @admin.action(description="Pause: begin nothing until resumed", permissions=["pause"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Ask why, then pause."""
        return self._ask_or_act(request, queryset, pauses=True)

    @admin.action(description="Resume", permissions=["pause"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Ask why, then resume."""
        return self._ask_or_act(request, queryset, pauses=False)

    def _ask_or_act(
        self, request: HttpRequest, queryset: QuerySet[Any], *, pauses: bool
    ) -> HttpResponse | None:
        # Several runs of one finder are one finder.
        rows = {what: row for row in queryset if (what := self.pausable(row)) is not None}
        if not rows:
            text = "Only finders and ingesters can be paused and resumed."
            self.message_user(request, text, messages.WARNING)
            return None
        if request.POST.get("confirmed") != "yes":
            return self._question(request, [str(what) for what in rows], pauses=pauses)
        for what, row in rows.items():
            act(request, what, row, pauses=pauses)
        return None

    def _question(self, request: HttpRequest, names: list[str], *, pauses: bool) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Pause" if pauses else "Resume",
            "opts": self.opts,
            "names": names,
            "pauses": pauses,
            "note_chars": NOTE_CHARS,
            "selected": request.POST.getlist(helpers.ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
            "checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "action": "pause_selected" if pauses else "resume_selected",
        }
        return TemplateResponse(request, "admin/buffer/pause_confirmation.html", context)


def row_of(what: Pausable) -> Model | None:
    """Give the row that stands for a finder or ingester; None if nothing is known of it."""
    for page in admin.site._registry.values():
        if isinstance(page, PausableAdmin):
            row = page.newest_of(what)
            if row is not None and page.pausable(row) == what:
                return row
    # What has not run for a week is forgotten, but not its pause.
    return what.pauses().last()


def act(request: HttpRequest, what: Pausable, row: Model, *, pauses: bool) -> None:
    """Pause or resume with the note that was sent, log it, and tell the user.

    Parameters
    ----------
    request : `~django.http.HttpRequest`
        Of a user who may.
    what : `Pausable`
        What to pause or resume.
    row : `~django.db.models.Model`
        In whose history it is logged.
    pauses : `bool`
        Whether to pause it.
    """
    note = note_of(request)
    change = operator_pauses.pause if pauses else operator_pauses.resume
    words = ("paused", "was paused before") if pauses else ("goes on", "was not paused")
    done = change(what, user=user_name(request), note=note)
    if done:
        why = f" Note: {note}" if note else ""
        record(request, row, f"{what}: {words[0]}.{why}")
    level = messages.SUCCESS if done else messages.WARNING
    messages.add_message(request, level, f"{what}: {words[not done]}.")


class Standing(Ended):
    """Whether a pause stands."""

    field = "resumed_on"
    states = (("standing", "Standing"), ("ended", "Ended"))


@admin.register(OperatorPause)
class OperatorPauseAdmin(BigTableAdmin):
    """Who paused what, and why."""

    list_display = ("id", "kind", "shown_subject", "host", "paused_on", "shown_paused_by",
                    "shown_note", "resumed_on", "shown_resumed_by",
                    "shown_resume_note")  # fmt: skip
    list_display_links = ("id", "kind")
    list_filter = (Standing, "kind")
    search_fields = ("subject", "paused_by", "resumed_by")
    fields = ("id", "kind", "shown_subject", "host", "paused_on", "shown_paused_by", "shown_note",
              "resumed_on", "shown_resumed_by", "shown_resume_note")  # fmt: skip
    readonly_fields = fields

    @admin.display(description="what")
    def shown_subject(self, row: OperatorPause) -> str:
        """A source directory or an ingester."""
        return escape(row.subject)

    # Whoever pauses from a shell may give any name.
    shown_paused_by = printable("paused_by")
    shown_resumed_by = printable("resumed_by")

    @admin.display(description="note")
    def shown_note(self, row: OperatorPause) -> SafeString | str:
        """Why it was paused."""
        return preformatted(row.note)

    @admin.display(description="note of the end")
    def shown_resume_note(self, row: OperatorPause) -> SafeString | str:
        """Why it was resumed."""
        return preformatted(row.resume_note)
