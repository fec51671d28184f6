"""Admin pages of storage areas, files, refusals and components. Nothing there can be edited."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from buffer import admin_alerts, shown  # noqa: F401  (registers its pages)
from buffer.admin_base import BigTableAdmin, ReadOnlyAdmin, Since, badge, preformatted
from buffer.admin_filters import Day, Directory, Size, TypedFilter, as_day
from buffer.admin_pauses import PausableAdmin
from buffer.admin_search import ids_matching, say_if_cut
from buffer.admin_suspicions import Suspect, badges, marks, stories
from buffer.components import is_live
from buffer.csv_export import CsvExport
from buffer.models import Component, File, Refusal, RefusalReason, Storage
from buffer.names import escape
from buffer.operator_pauses import Pausable

admin.site.site_title = "Endpoint buffer manager"
admin.site.site_header = "Endpoint buffer manager"
admin.site.index_title = "State of everything"


@admin.register(Storage)
class StorageAdmin(ReadOnlyAdmin):
    """Storage areas."""

    list_display = ("name", "shown_root", "marked_on", "created_on")
    search_fields = ("name", "root")
    ordering = ("name",)
    fields = ("name", "shown_root", "marker", "marked_on", "created_on")
    readonly_fields = fields

    @admin.display(description="root")
    def shown_root(self, row: Storage) -> str:
        """Top directory."""
        return escape(row.root)


class AddedSince(Since):
    """Files of the last hours or days."""

    title = "added"
    field = "added_on"


class AddedDay(Day):
    """Files of one day."""

    title = "day added (UTC)"
    field = "added_on"


class Stage(admin.SimpleListFilter):
    """How far a file's take-in is."""

    title = "take-in"
    parameter_name = "stage"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Give the choices."""
        return [
            ("stored", "Stored"),
            ("intent", "Being taken in"),
            ("unreleased", "Arrival not released"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[File]) -> QuerySet[File]:
        """Leave out the others."""
        match self.value():
            case "stored":
                return queryset.filter(stored_on__isnull=False)
            case "intent":
                return queryset.filter(stored_on__isnull=True)
            case "unreleased":
                return queryset.filter(source__isnull=False)
            case _:
                return queryset


class FileAdmin(CsvExport, BigTableAdmin):
    """Files; what became of them at their targets is added by `ingest.admin`."""

    actions: Any = ("export_csv",)
    csv_columns = (
        ("id", lambda row: row.pk),
        ("storage", lambda row: row.storage.name),
        ("path", lambda row: escape(row.path)),
        ("size (bytes)", lambda row: row.size_bytes),
        ("checksum", lambda row: row.checksum),
        ("algorithm", lambda row: row.checksum_algorithm),
        ("added on", lambda row: row.added_on),
        ("stored on", lambda row: row.stored_on),
    )

    list_display: Any = ("id", "place", "size", "storage", "added_on", "stage", "suspect")
    list_display_links = ("id", "place")
    list_filter: ClassVar[Any] = (
        "storage", Stage, Suspect, AddedSince, AddedDay, Directory, Size,
    )  # fmt: skip
    list_select_related = ("storage",)
    search_fields = ("filename",)
    search_help_text = "Name or its beginning, directory, path, id or checksum"
    fields: ClassVar[Any] = (
        "id",
        "place",
        "storage",
        "whole_path",
        "checksum",
        "checksum_algorithm",
        "size",
        "seen_on",
        "added_on",
        "stored_on",
        "arrival",
        "suspicions",
    )
    readonly_fields: ClassVar[Any] = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[File]:
        """Fetch the standing marks of a page's files at once."""
        return super().get_queryset(request).prefetch_related(marks())

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by what has an index, not anywhere within."""
        term = search_term.strip()
        if not term:
            return queryset, False
        say_if_cut(request, ids := ids_matching(term))
        return queryset.filter(pk__in=ids), False

    @admin.display(description="path")
    def place(self, row: File) -> str:
        """Path below the storage root."""
        return escape(row.path)

    @admin.display(description="on disk")
    def whole_path(self, row: File) -> str:
        """Absolute path."""
        return escape(row.path_below(row.storage.root))

    @admin.display(description="size")
    def size(self, row: File) -> str:
        """Size, exact where it is not obvious."""
        return f"{filesizeformat(row.size_bytes)} ({row.size_bytes} bytes)"

    @admin.display(description="take-in")
    def stage(self, row: File) -> str:
        """How far its take-in is."""
        if row.stored_on is None:
            return "being taken in"
        return "stored" if row.source is None else "stored, arrival not released"

    @admin.display(description="arrival to be released")
    def arrival(self, row: File) -> str:
        """The buffer that it came from."""
        return escape(row.source) if row.source else "-"

    @admin.display(description="suspect")
    def suspect(self, row: File) -> SafeString:
        """What an audit found."""
        return badges(row)

    @admin.display(description="found by audits")
    def suspicions(self, row: File) -> SafeString | str:
        """What audits have found, newest first, and what to do about it."""
        return stories(row)


admin.site.register(File, FileAdmin)


class Open(admin.SimpleListFilter):
    """Whether a refusal stands."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Give the choices."""
        return [("open", "Standing"), ("resolved", "Resolved")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Refusal]) -> QuerySet[Refusal]:
        """Leave out the others."""
        if self.value() in ("open", "resolved"):
            return queryset.filter(resolved_on__isnull=self.value() == "open")
        return queryset


class LastSeenDay(TypedFilter):
    """Refusals that were last seen on one day."""

    title = "day last seen (UTC)"
    parameter_name = "day"
    input_type = "date"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Refusal]) -> QuerySet[Refusal]:
        """Leave out other days."""
        if not (value := self.value()):
            return queryset
        day = as_day(value)
        return queryset.none() if day is None else queryset.filter(last_seen__range=day)


@admin.register(Refusal)
class RefusalAdmin(CsvExport, BigTableAdmin):
    """Arrivals that were not taken in."""

    actions = ("export_csv",)
    csv_columns = (
        ("id", lambda row: row.pk),
        ("reason", lambda row: row.reason),
        ("buffer", lambda row: escape(row.source)),
        ("path", lambda row: row.path),
        ("size (bytes)", lambda row: row.size_bytes),
        ("detail", lambda row: row.detail),
        ("first seen", lambda row: row.first_seen),
        ("last seen", lambda row: row.last_seen),
        ("resolved on", lambda row: row.resolved_on),
        ("resolved how", lambda row: row.resolved_how),
        ("resolved by", lambda row: row.resolved_by),
    )

    list_display = ("id", "reason_badge", "path", "short_detail", "state", "times_seen",
                    "first_seen", "last_seen")  # fmt: skip
    list_display_links = ("id", "path")
    list_filter = (Open, "reason", "storage", LastSeenDay)
    list_select_related = ("storage",)
    search_fields = ("path__startswith", "path__endswith", "checksum__exact", "=id")
    search_help_text = "Beginning or end of the path below the buffer, checksum or id"
    fields = (
        "id",
        "reason_badge",
        "desk",
        "path",
        "shown_source",
        "storage",
        "shown_detail",
        "file",
        "size_bytes",
        "mtime",
        "checksum",
        "identity",
        "first_seen",
        "last_seen",
        "times_seen",
        "next_attempt_on",
        "resolved_on",
        "resolved_how",
        "resolved_by",
    )
    readonly_fields = fields

    @admin.display(description="reason")
    def reason_badge(self, row: Refusal) -> SafeString:
        """Why."""
        return badge(row.reason)

    @admin.display(description="to decide")
    def desk(self, row: Refusal) -> SafeString | str:
        """The way to the page where conflicts are decided."""
        if row.reason != RefusalReason.CONFLICT:
            return "-"
        link = reverse("buffer:conflict", args=[row.pk])
        return format_html('<a href="{}">Both files side by side</a>', link)

    @admin.display(description="buffer")
    def shown_source(self, row: Refusal) -> str:
        """The buffer that it lies in."""
        return escape(row.source)

    @admin.display(description="detail")
    def short_detail(self, row: Refusal) -> str:
        """Begin of the explanation."""
        return shown.message(row.detail)[:120]

    @admin.display(description="detail")
    def shown_detail(self, row: Refusal) -> SafeString | str:
        """The explanation."""
        return preformatted(row.detail)

    @admin.display(description="state")
    def state(self, row: Refusal) -> str:
        """Whether it stands, and else how it was resolved."""
        if row.resolved_on is None:
            return "standing"
        return f"resolved: {row.resolved_how}" if row.resolved_how else "resolved"


class Live(admin.SimpleListFilter):
    """Whether a component is at work."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Give the choices."""
        return [("running", "Not stopped"), ("stopped", "Stopped")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Component]) -> QuerySet[Component]:
        """Leave out the others."""
        if self.value() in ("running", "stopped"):
            return queryset.filter(stopped_on__isnull=self.value() == "running")
        return queryset


@admin.register(Component)
class ComponentAdmin(PausableAdmin, BigTableAdmin):
    """Runs of the commands, and sessions of their workers."""

    list_display = ("id", "kind", "shown_subject", "host", "pid", "state", "started_on", "seen_on",
                    "shown_message")  # fmt: skip
    list_display_links = ("id", "kind")
    list_filter = (Live, "kind", "host")
    actions = ("pause_selected", "resume_selected")
    search_fields = ("subject", "host", "=pid", "=id")
    fields = (
        "id",
        "kind",
        "shown_subject",
        "state",
        "host",
        "pid",
        "version",
        "workers",
        "run",
        "started_on",
        "seen_on",
        "stopped_on",
        "shown_message",
        "shown_counters",
        "shown_settings",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Component]:
        """Read the clock that heartbeats go by along with the rows."""
        rows: QuerySet[Component] = super().get_queryset(request)
        return rows.annotate(read_on=Now())

    def pausable(self, row: Component) -> Pausable | None:
        """Give the finder or ingester that it is a run of."""
        return Pausable.of(row)

    def newest_of(self, what: Pausable) -> Component | None:
        """Give the latest run of a finder; an ingester, on all hosts, has a row of its own."""
        return Component.objects.filter(kind=what.kind, subject=what.subject, host=what.host).last()

    @admin.display(description="works for")
    def shown_subject(self, row: Component) -> str:
        """A source directory or an ingester."""
        return escape(row.subject)

    @admin.display(description="state")
    def state(self, row: Component) -> SafeString:
        """Running, silent or stopped."""
        if row.stopped_on is not None:
            return badge("stopped")
        return badge("running" if is_live(row, vars(row)["read_on"]) else "silent")

    @admin.display(description="waits for")
    def shown_message(self, row: Component) -> str:
        """What it waits for, if anything."""
        return shown.message(row.message)

    @admin.display(description="counters")
    def shown_counters(self, row: Component) -> str:
        """What it did so far."""
        return ", ".join(f"{value} {name}" for name, value in row.counters.items()) or "-"

    @admin.display(description="settings")
    def shown_settings(self, row: Component) -> SafeString | str:
        """The configuration, without its secrets."""
        return preformatted(as_text(row.settings))


def as_text(settings: Any) -> str:
    """Write settings down for a person, without their secrets."""
    return json.dumps(shown.settings(settings), indent=2, ensure_ascii=False) if settings else ""
