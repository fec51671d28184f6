"""Admin pages of storage areas, files, refusals and components. Nothing there can be edited."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.safestring import SafeString

from buffer import admin_alerts, admin_components, admin_refusals, shown  # noqa: F401 - pages
from buffer.admin_base import BigTableAdmin, ReadOnlyAdmin, Since
from buffer.admin_filters import Day, Directory, Size
from buffer.admin_search import ids_matching, say_if_cut
from buffer.admin_suspicions import Suspect, badges, marks, stories
from buffer.csv_export import CsvExport
from buffer.models import File, Storage
from buffer.names import escape

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
