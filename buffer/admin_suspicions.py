"""Admin pages of the marks that audits leave on files; they are shown with the files, too."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from buffer.admin_base import BigTableAdmin, badge, preformatted
from buffer.admin_filters import Ended
from buffer.audit_findings import proposal
from buffer.models import File, FindingKind, Suspicion
from buffer.names import escape

#: Marks on a file's own page.
_SOME: Final = 20


def marks() -> Prefetch[str, QuerySet[Suspicion], str]:
    """Fetch the standing marks of all files of a page at once, for `badges`."""
    return Prefetch("suspicion_set", Suspicion.objects.standing(), to_attr="marks")


def badges(row: File) -> SafeString:
    """Show in what way an audit found a file wrong."""
    found: list[Suspicion] = vars(row).get("marks", [])
    return format_html_join(" ", "{}", ((badge(mark.kind),) for mark in found))


def stories(row: File) -> SafeString | str:
    """Show what audits have found about a file, newest first, and what to do about it."""
    whole = escape(row.path_below(row.storage.root))
    found = Suspicion.objects.filter(file=row).order_by("-id")[:_SOME]
    lines = ((badge(mark.kind), preformatted(_told(mark, whole))) for mark in found)
    return format_html_join("", "{}{}", lines) or "-"


def _told(mark: Suspicion, whole: str) -> str:
    """Tell a mark's story; `whole` is the file's absolute path, escaped."""
    story = (
        f"{mark.detail}\nfound {mark.found_on:%Y-%m-%d %H:%M:%S} UTC by {mark.found_by}, last seen"
        f" {mark.seen_on:%Y-%m-%d %H:%M:%S} UTC"
    )
    if mark.cleared_on is None:
        return f"{story}\nto do: {proposal(FindingKind(mark.kind), whole)}"
    return f"{story}\ncleared {mark.cleared_on:%Y-%m-%d %H:%M:%S} UTC: {mark.cleared_how}"


class Suspect(admin.SimpleListFilter):
    """Files that an audit found wrong."""

    title = "audit"
    parameter_name = "suspect"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Give the choices."""
        kinds = [kind.value for kind in FindingKind if kind != FindingKind.UNTRACKED]
        return [("any", "Suspect"), *((kind, f"Suspect: {kind}") for kind in kinds)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[File]) -> QuerySet[File]:
        """Leave out the others."""
        rows = Suspicion.objects.standing()
        if self.value() in FindingKind.values:
            rows = rows.filter(kind=self.value())
        elif self.value() != "any":
            return queryset
        return queryset.filter(pk__in=rows.values("file"))


class Standing(Ended):
    """Whether a mark stands."""

    field = "cleared_on"
    states = (("standing", "Standing"), ("cleared", "Cleared"))


@admin.register(Suspicion)
class SuspicionAdmin(BigTableAdmin):
    """Marks of audits, those that were cleared too."""

    list_display = ("id", "kind_badge", "place", "shown_detail", "found_on", "seen_on",
                    "cleared_on", "cleared_how")  # fmt: skip
    list_display_links = ("id", "kind_badge")
    list_filter = (Standing, "kind")
    list_select_related = ("file",)
    search_fields = ("=file__id", "=id")
    search_help_text = "Id of the file or of the mark"
    fields = ("id", "kind_badge", "file", "shown_detail", "found_on", "found_by", "seen_on",
              "cleared_on", "cleared_how", "cleared_by")  # fmt: skip
    readonly_fields = fields

    @admin.display(description="kind")
    def kind_badge(self, row: Suspicion) -> SafeString:
        """In what way it was wrong."""
        return badge(row.kind)

    @admin.display(description="file")
    def place(self, row: Suspicion) -> str:
        """Path below the storage root."""
        return escape(row.file.path)

    @admin.display(description="detail")
    def shown_detail(self, row: Suspicion) -> SafeString | str:
        """What was found."""
        return preformatted(row.detail)
