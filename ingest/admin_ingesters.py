"""Admin pages of ingesters: what they are, whether they work, and the means to steer them."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from buffer import operator_pauses
from buffer.admin_base import as_text, preformatted
from buffer.admin_pauses import PausableAdmin
from buffer.components import live
from buffer.models import ComponentKind
from buffer.operator_pauses import Pausable
from ingest import pauses, probing
from ingest.models import Ingester


@admin.register(Ingester)
class IngesterAdmin(PausableAdmin):
    """Targets."""

    list_display = ("name", "plugin", "storage", "state", "started_on", "seen_on", "created_on")
    list_filter = ("storage",)
    list_select_related = ("storage", "breaker")
    actions = ("probe_selected", "pause_selected", "resume_selected")
    search_fields = ("name", "plugin")
    ordering = ("name",)
    fields = ("name", "plugin", "storage", "state", "created_on", "started_on", "seen_on",
              "watermark", "shown_settings")  # fmt: skip
    readonly_fields = fields

    def has_probe_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may have a target probed: whoever may have files tried again."""
        return bool(request.user.has_perm("ingest.rerun"))

    def pausable(self, row: Ingester) -> Pausable:
        """Give it as what can be paused."""
        return Pausable(ComponentKind.INGESTER, row.name)

    def newest_of(self, what: Pausable) -> Ingester | None:
        """Give the ingester of that name."""
        return Ingester.objects.filter(name=what.subject).first()

    @admin.display(description="state")
    def state(self, row: Ingester) -> SafeString | str:
        """Whether it tries files, or pauses and why, and what happens next."""
        if held_back := operator_pauses.look(self.pausable(row)):
            return preformatted(held_back)
        pause = pauses.shown_pause(row)
        return "works" if pause is None else preformatted(f"{pause}; {pause.next}")

    @admin.action(description="Probe now: try one file at once", permissions=["probe"])
    def probe_selected(self, request: HttpRequest, queryset: QuerySet[Ingester]) -> None:
        """Do not wait for the next probe."""
        for row in queryset:
            if probing.probe_now(row.pk):
                self.log_change(request, row, "Probe now")
                text, level = self._probed(row)
            elif pauses.look(row.pk) is None:
                text, level = "does not pause; nothing to do", messages.WARNING
            else:
                text, level = "a worker probes already", messages.WARNING
            self.message_user(request, f"{row.name}: {text}.", level)

    def _probed(self, row: Ingester) -> tuple[str, int]:
        """Tell what comes of a probe that was asked for, and how good that is."""
        if held_back := operator_pauses.look(self.pausable(row)):
            return (
                f"the target is probed when the ingester is resumed; it is {held_back}",
                messages.WARNING,
            )
        if not live(ComponentKind.INGESTER, subject=row.name).exists():
            return "the target is probed when the ingester runs; start it", messages.WARNING
        return "the target is probed with one file at once", messages.SUCCESS

    @admin.display(description="settings as last started")
    def shown_settings(self, row: Ingester) -> SafeString | str:
        """The configuration, without its secrets."""
        return preformatted(as_text(row.settings))
