"""Admin pages of what became of files at their targets. Nothing there can be edited."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import django_q.admin  # noqa: F401  (registers its pages, which are taken off below)
from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django_q.models import Failure, OrmQ, Schedule, Success

from buffer import shown
from buffer.admin import FileAdmin
from buffer.admin_base import BigTableAdmin, badge, preformatted, printable
from buffer.admin_filters import DirectoryOfFile
from buffer.admin_search import ids_matching, of_files, say_if_cut
from buffer.csv_export import Column, CsvExport
from buffer.models import File
from buffer.names import escape
from ingest import admin_ingesters  # noqa: F401 - its pages
from ingest.admin_filters import (
    AtIngesters,
    Cause,
    FilesDay,
    Held,
    StartedDay,
    StartedSince,
    StatusNow,
)
from ingest.admin_rerun import EventRerunAdmin, FileRerunAdmin, IngestionRerunAdmin
from ingest.file_page import FilePage, shown_story
from ingest.models import FileEvent, Ingestion

#: Events on a file's own page; a link leads to all.
TIMELINE: int = 50

# Whoever may add a schedule can call any function; the queue holds wake-ups only, and results are
# not kept, so that there is nothing to see either.
for _model in (Schedule, Success, Failure, OrmQ):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)


def timeline(events: QuerySet[FileEvent], **filters: int) -> SafeString:
    """Show the newest events of a file, with a link to all of them."""
    rows = list(events.select_related("ingester").order_by("-id")[: TIMELINE + 1])
    link = reverse("admin:ingest_fileevent_changelist") + "?" + urlencode(filters)
    context = {"events": rows[:TIMELINE], "more": len(rows) > TIMELINE, "link": link}
    return SafeString(render_to_string("admin/ingest/timeline.html", context))


_OF_A_FILE: Final[tuple[Column, ...]] = (
    ("id", lambda row: row.pk),
    ("file", lambda row: row.file_id),
    ("path", lambda row: escape(row.file.path)),
    ("ingester", lambda row: row.ingester.name),
    ("status", lambda row: row.status),
    ("cause", lambda row: row.cause),
)


class OfFilesAdmin(CsvExport, BigTableAdmin):
    """Pages of rows that belong to a file each."""

    actions: Any = ("rerun_selected", "export_csv")

    list_display_links = ("id", "place")
    list_select_related = ("file", "ingester")
    search_fields = ("file__filename",)
    search_help_text = "Name of the file or its beginning, directory, path, checksum or file id"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by what has an index, not anywhere within."""
        term = search_term.strip()
        if not term:
            return queryset, False
        say_if_cut(request, ids := ids_matching(term))
        return of_files(queryset, ids), False

    @admin.display(description="file")
    def place(self, row: Ingestion | FileEvent) -> str:
        """Path below the storage root."""
        return escape(row.file.path)

    @admin.display(description="status")
    def status_badge(self, row: Ingestion | FileEvent) -> SafeString:
        """Where it stands, or stood."""
        return badge(row.status)

    @admin.display(description="cause")
    def shown_cause(self, row: Ingestion | FileEvent) -> str:
        """The message without paths and numbers."""
        return shown.message(row.cause)


@admin.register(Ingestion)
class IngestionAdmin(IngestionRerunAdmin, OfFilesAdmin):
    """The present: one row for each file at each ingester."""

    actions = OfFilesAdmin.actions
    csv_columns = (
        *_OF_A_FILE,
        ("attempts", lambda row: row.attempts),
        ("changed on", lambda row: row.changed_on),
        ("next attempt on", lambda row: row.next_attempt_on),
    )

    list_display = ("id", "place", "ingester", "status_badge", "cause_link", "attempts",
                    "changed_on", "next_attempt_on", "held")  # fmt: skip
    list_filter = ("ingester", StatusNow, Cause, Held, FilesDay, DirectoryOfFile)
    fields = ("id", "file", "ingester", "status_badge", "shown_cause", "attempts", "changed_on",
              "next_attempt_on", "claim", "lease_until", "last_message", "history")  # fmt: skip
    readonly_fields = fields

    @admin.display(description="cause")
    def cause_link(self, row: Ingestion) -> SafeString | str:
        """The cause, which leads to all files that failed of it here."""
        if not row.cause:
            return ""
        query: dict[str, str | int] = {
            "ingester__id__exact": row.ingester_id,
            "status__exact": row.status,
            "cause": row.cause,
        }
        return format_html('<a href="?{}">{}</a>', urlencode(query), shown.message(row.cause))

    @admin.display(description="held by a worker", boolean=True)
    def held(self, row: Ingestion) -> bool | None:
        """Whether a worker holds it now."""
        return True if row.claim is not None else None

    @admin.display(description="last message")
    def last_message(self, row: Ingestion) -> SafeString | str:
        """Message of its last event."""
        event = row.last_event
        return preformatted(event.err_message) if event is not None else "-"

    @admin.display(description="events")
    def history(self, row: Ingestion) -> SafeString:
        """Its events, newest first."""
        events = FileEvent.objects.filter(file=row.file_id, ingester=row.ingester_id)
        return timeline(events, file__id__exact=row.file_id, ingester__id__exact=row.ingester_id)


@admin.register(FileEvent)
class FileEventAdmin(EventRerunAdmin, OfFilesAdmin):
    """The past."""

    actions = OfFilesAdmin.actions
    csv_columns = (
        *_OF_A_FILE,
        ("start time", lambda row: row.start_time),
        ("duration (s)", lambda row: row.duration),
        ("message", lambda row: row.err_message),
        ("version", lambda row: row.ingest_ver),
        ("worker", lambda row: row.worker),
        ("user", lambda row: row.user),
        ("note", lambda row: row.note),
    )

    list_display = ("id", "place", "ingester", "status_badge", "start_time", "duration",
                    "shown_cause", "shown_version", "who")  # fmt: skip
    list_filter = ("ingester", "status", StartedSince, StartedDay, DirectoryOfFile)
    fields = ("id", "file", "ingester", "status_badge", "start_time", "duration", "message",
              "shown_cause", "shown_version", "shown_worker", "shown_user", "shown_note",
              "claim")  # fmt: skip
    readonly_fields = fields

    # A plugin's version may be any text, and so may what an event by SQL says of user and worker.
    shown_version = printable("ingest_ver")
    shown_worker = printable("worker")
    shown_user = printable("user")

    @admin.display(description="by")
    def who(self, row: FileEvent) -> str:
        """The user or the worker that caused it."""
        return shown.message(row.user or row.worker)

    @admin.display(description="message")
    def message(self, row: FileEvent) -> SafeString | str:
        """What was said of it, as it was written."""
        return preformatted(row.err_message)

    @admin.display(description="note")
    def shown_note(self, row: FileEvent) -> SafeString | str:
        """What the user wrote."""
        return preformatted(row.note)


class FileWithHistoryAdmin(FilePage, FileRerunAdmin, FileAdmin):
    """Files, with their status at each ingester and their events."""

    actions = ("rerun_selected", "export_csv")

    list_display = (*FileAdmin.list_display, "at_ingesters")
    list_filter = (*FileAdmin.list_filter, AtIngesters)
    readonly_fields: ClassVar[Any] = (*FileAdmin.readonly_fields, "at_ingesters", "history")

    def get_queryset(self, request: HttpRequest) -> QuerySet[File]:
        """Fetch all statuses of a page's files at once."""
        rows = Ingestion.objects.select_related("ingester").order_by("ingester__name")
        return super().get_queryset(request).prefetch_related(Prefetch("ingestion_set", rows))

    def get_list_display(self, request: HttpRequest) -> Any:
        """Leave out the statuses for users who may not see them."""
        if self._may_see(request, "ingestion"):
            return self.list_display
        return FileAdmin.list_display

    def get_fields(self, request: HttpRequest, obj: File | None = None) -> Any:
        """Begin with what became of it, but for users who may not see that."""
        number, place, *facts = FileAdmin.fields
        of_ingestions = (("at_ingesters", "ingestion"), ("history", "fileevent"))
        told = [field for field, model in of_ingestions if self._may_see(request, model)]
        return [number, place, *told, *facts]

    @admin.display(description="at ingesters")
    def at_ingesters(self, row: File) -> SafeString | str:
        """Its status at each ingester."""
        return format_html_join(
            SafeString("<br>"),
            '<a href="{}">{}</a> {}',
            (
                (
                    reverse("admin:ingest_ingestion_change", args=[state.pk]),
                    state.ingester.name,
                    badge(state.status),
                )
                for state in row.ingestion_set.all()
            ),
        )

    @admin.display(description="timeline")
    def history(self, row: File) -> SafeString:
        """Its way, newest first: arrival, take-in, audits and events at all ingesters."""
        return shown_story(row, TIMELINE)

    def _may_see(self, request: HttpRequest, model: str) -> bool:
        return bool(
            request.user.has_perm(f"ingest.view_{model}")
            or request.user.has_perm(f"ingest.change_{model}")
        )


admin.site.unregister(File)
admin.site.register(File, FileWithHistoryAdmin)
