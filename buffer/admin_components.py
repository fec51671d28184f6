"""The admin's pages of runs of the commands."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.safestring import SafeString

from buffer import shown
from buffer.admin_base import BigTableAdmin, as_text, badge, preformatted
from buffer.admin_filters import Ended
from buffer.admin_pauses import PausableAdmin
from buffer.components import is_live
from buffer.models import Component
from buffer.names import escape
from buffer.operator_pauses import Pausable


class Live(Ended):
    """Whether a component is at work."""

    field = "stopped_on"
    states = (("running", "Not stopped"), ("stopped", "Stopped"))


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
