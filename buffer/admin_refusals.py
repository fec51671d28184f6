"""The admin's pages of what was not taken in."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from buffer import shown
from buffer.admin_base import BigTableAdmin, badge, preformatted
from buffer.admin_filters import Ended, TypedFilter, as_day
from buffer.csv_export import CsvExport
from buffer.models import Refusal, RefusalReason
from buffer.names import escape


class Open(Ended):
    """Whether a refusal stands."""

    field = "resolved_on"
    states = (("open", "Standing"), ("resolved", "Resolved"))


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
