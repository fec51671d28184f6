"""Filters of the lists of ingestions, events and files, by what the indexes of big tables know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.contrib import admin
from django.db.models import Count, QuerySet, Value
from django.db.models.functions import Concat
from django.http import HttpRequest

from buffer import shown
from buffer.admin_base import COUNTED, Since
from buffer.admin_filters import Day, ids_of_day, is_alone
from buffer.counting import first_of
from buffer.models import File
from buffer.shown import is_text
from ingest.models import Ingester, Ingestion
from ingest.statuses import CLAIMABLE, NEEDS_A_PERSON, Status

#: Causes that the list of ingestions offers to choose from.
_CAUSES: Final = 10


class Held(admin.SimpleListFilter):
    """Whether a worker holds it."""

    title = "claim"
    parameter_name = "held"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Give the choices."""
        return [("yes", "Held by a worker"), ("retry", "To be tried again by itself")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Ingestion]) -> QuerySet[Ingestion]:
        """Leave out the others."""
        match self.value():
            case "yes":
                return queryset.filter(claim__isnull=False)
            case "retry":
                return queryset.filter(next_attempt_on__isnull=False)
            case _:
                return queryset


def with_status(rows: QuerySet[Ingestion], status: str) -> QuerySet[Ingestion]:
    """Give those with a status, by what has an index: PENDING ones are claimed."""
    if status == Status.PENDING:
        rows = rows.filter(claim__isnull=False)
    return rows.filter(status=status)


def of_day_with_status(rows: QuerySet[Ingestion], status: str) -> QuerySet[Ingestion]:
    """Give those with a status, by the index on files: a day has few of all that ever failed."""
    return rows.alias(word=Concat("status", Value(""))).filter(word=status)


def every_ingester() -> list[int]:
    """Give the ids of all ingesters, with which the indexes begin."""
    return list(Ingester.objects.values_list("pk", flat=True))


def newest(parts: Iterable[QuerySet[Ingestion]], field: str = "pk") -> list[int]:
    """Give ids of the newest rows of several queries, of each not more than a list counts.

    The indexes begin with the ingester: they know what is newest at one of them, and where two are
    asked for, planners read everything by its ids.
    """
    found: set[int] = set()
    for rows in parts:
        found.update(rows.order_by("-pk").values_list(field, flat=True)[: COUNTED + 1])
    return list(found)


class OfStatus(admin.SimpleListFilter):
    """A filter whose values are statuses."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Give the choices."""
        return [(status.value, status.value) for status in Status]


class StatusNow(OfStatus):
    """Where files stand."""

    title = "status"
    parameter_name = "status__exact"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Ingestion]) -> QuerySet[Ingestion]:
        """Leave out the others."""
        if (status := self.value()) not in Status.values:
            return queryset
        if "day" in request.GET:
            return of_day_with_status(queryset, str(status))
        rows = with_status(queryset, str(status))
        if status not in CLAIMABLE or not is_alone(request, self.parameter_name):
            return rows
        ids = newest(rows.filter(ingester=one) for one in Ingester.objects.all())
        return queryset.filter(pk__in=ids)


class Cause(admin.SimpleListFilter):
    """Why files failed: the causes that were the most frequent of late."""

    title = "cause"
    parameter_name = "cause"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Give the choices, and the one that was chosen."""
        latest = Ingestion.objects.troubled().order_by("-changed_on")
        groups = first_of(latest).values_list("cause").annotate(n=Count("pk")).order_by("-n")
        causes = [cause for cause, _ in groups[:_CAUSES] if cause]
        if (chosen := self.used_parameters.get(self.parameter_name)) and chosen not in causes:
            causes.insert(0, chosen)
        return [(cause, shown.message(cause)) for cause in causes]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Ingestion]) -> QuerySet[Ingestion]:
        """Leave out the others."""
        # The empty one is a cause, too.
        if (cause := self.value()) is None:
            return queryset
        if not is_text(cause):
            return queryset.none()
        if not is_alone(request, self.parameter_name):
            failed = queryset.filter(status__in=NEEDS_A_PERSON, cause=cause)
            return failed.filter(ingester__in=every_ingester())
        parts = (
            Ingestion.objects.filter(ingester=ingester, status=status, cause=cause)
            for ingester in Ingester.objects.all()
            for status in NEEDS_A_PERSON
        )
        return queryset.filter(pk__in=newest(parts))


class FilesDay(Day):
    """Ingestions of the files that were added on one day."""

    title = "day the file was added (UTC)"
    field, key, of = "added_on", "file_id", File

    def queryset(self, request: HttpRequest, queryset: QuerySet[Ingestion]) -> QuerySet[Ingestion]:
        """Leave out other days; look up first by the index on files, and sort afterwards."""
        if not self.value():
            return queryset
        rows = super().queryset(request, queryset)
        if "directory" in request.GET or "q" in request.GET:
            return rows
        ordered = rows.order_by("-file_id", "-ingester_id").values_list("pk", flat=True)
        return queryset.filter(pk__in=list(ordered[: COUNTED + 1]))


class StartedDay(Day):
    """Events of one day."""

    field = "start_time"


class StartedSince(Since):
    """Events of the last hours or days."""

    title = "time"
    field = "start_time"


class AtIngesters(OfStatus):
    """The status of files at any ingester."""

    title = "status at an ingester"
    parameter_name = "status"

    def queryset(self, request: HttpRequest, queryset: QuerySet[File]) -> QuerySet[File]:
        """Leave out the others."""
        if (status := self.value()) not in Status.values:
            return queryset
        if day := ids_of_day(File, "added_on", request.GET.get("day", "")):
            begin, end = day
            then = Ingestion.objects.filter(file_id__gte=begin, file_id__lt=end)
            return queryset.filter(pk__in=of_day_with_status(then, str(status)).values("file"))
        rows = with_status(Ingestion.objects.all(), str(status))
        if not is_alone(request, self.parameter_name):
            return queryset.filter(pk__in=rows.filter(ingester__in=every_ingester()).values("file"))
        parts = (rows.filter(ingester=one) for one in Ingester.objects.all())
        return queryset.filter(pk__in=newest(parts, "file_id"))
