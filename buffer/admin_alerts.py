"""Admin pages of alerts: what was raised, when it was over, and who was told."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString

from buffer.admin_base import BigTableAdmin, badge, preformatted
from buffer.models import Alert
from buffer.names import escape


@admin.register(Alert)
class AlertAdmin(BigTableAdmin):
    """Episodes."""

    list_display = ("id", "badge", "kind", "shown_subject", "host", "shown_detail", "raised_on",
                    "cleared_on")  # fmt: skip
    list_display_links = ("id", "badge")
    list_filter = ("condition", "kind")
    search_fields = ("subject", "=id")
    fields = ("id", "badge", "kind", "shown_subject", "host", "shown_detail", "raised_on",
              "cleared_on", "notices")  # fmt: skip
    readonly_fields = fields

    @admin.display(description="condition")
    def badge(self, row: Alert) -> SafeString:
        """What it is about."""
        return badge(row.condition)

    @admin.display(description="of")
    def shown_subject(self, row: Alert) -> str:
        """A source directory or an ingester."""
        return escape(row.subject)

    @admin.display(description="detail")
    def shown_detail(self, row: Alert) -> SafeString | str:
        """What was wrong."""
        return preformatted(row.detail)

    @admin.display(description="messages")
    def notices(self, row: Alert) -> SafeString | str:
        """Who was told, or not yet and why."""
        lines = []
        for notice in row.notice_set.order_by("id"):
            what = f"{notice.channel}, {'all clear' if notice.all_clear else 'raised'}"
            if notice.sent_on is not None:
                lines.append(f"{what}: sent {notice.sent_on:%Y-%m-%d %H:%M:%S} UTC")
            elif notice.next_try_on is None:
                lines.append(f"{what}: given up after {notice.tries} tries: {notice.error}")
            else:
                lines.append(f"{what}: not sent yet ({notice.tries} tries) {notice.error}")
        return preformatted("\n".join(lines))
