"""The RERUN action of the admin: a page that says what will happen, then the request itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from buffer.admin_base import ReadOnlyAdmin
from buffer.desk import NOTE_CHARS, note_of
from buffer.models import File
from buffer.names import escape
from ingest import rerun_jobs
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.rerun import Result, rerun, rerun_files
from ingest.rerun_pages import ask_for_many, job_started
from ingest.selection import of_events

#: How many files the page names, and for how many each has a line in the log of the admin.
SHOWN: Final = 20
LOGGED: Final = 100
_PART: Final = 5000


@dataclass(frozen=True, slots=True)
class Choice:
    """An ingester at which the selected files can be tried again.

    Parameters
    ----------
    ingester : `Ingester`
        Which one.
    files : `int`
        How many of the selected files it can try.
    known : `int`
        How many of them it knows already.
    """

    ingester: Ingester
    files: int
    known: int


class RerunAdmin(ReadOnlyAdmin):
    """Pages whose rows can be tried again, by users with the permission ``ingest.rerun``."""

    actions: Any = ("rerun_selected",)

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may ask for another attempt."""
        return bool(request.user.has_perm("ingest.rerun"))

    def rerun_choices(self, queryset: QuerySet[Any]) -> list[Choice]:
        """Say at which ingesters the selected rows can be tried again, and how many files."""
        groups = (
            self.rerun_ingestions(queryset)
            .order_by()
            .values_list("ingester")
            .annotate(files=Count("pk"))
        )
        ingesters = Ingester.objects.in_bulk()
        choices = [Choice(ingesters[pk], files, files) for pk, files in groups]
        return sorted(choices, key=lambda choice: choice.ingester.name)

    def rerun_ingestions(self, queryset: QuerySet[Any]) -> QuerySet[Ingestion]:
        """Give the ingestions of the selected rows."""
        raise NotImplementedError

    def rerun_ids(self, queryset: QuerySet[Any], ingester: Ingester) -> list[int]:
        """Give the ids of what `rerun_at` takes."""
        rows = self.rerun_ingestions(queryset).filter(ingester=ingester)
        return list(rows.order_by().values_list("pk", flat=True))

    def rerun_at(self, ids: list[int], ingester: Ingester, *, user: str, note: str) -> Result:
        """Ask for another attempt at one ingester."""
        return rerun(ids, user=user, note=note)

    def rerun_files(self, ids: list[int]) -> Iterator[int]:
        """Give the files of what `rerun_ids` gave."""
        for at in range(0, len(ids), _PART):
            rows = Ingestion.objects.filter(pk__in=ids[at : at + _PART])
            yield from rows.values_list("file", flat=True)

    @admin.action(description="RERUN: try selected files again", permissions=["rerun"])
    def rerun_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Ask for confirmation, then for another attempt."""
        queryset = queryset.select_related(None).prefetch_related(None)
        choices = self.rerun_choices(queryset)
        if not choices:
            self.message_user(request, "No ingester can try the selected files.", messages.WARNING)
            return None
        if (files := max(choice.files for choice in choices)) > (most := rerun_jobs.MOST):
            text = f"{files} files are too many for one request ({most} at most): filter the list,"
            self.message_user(request, f"{text} or use manage.py rerun.", messages.ERROR)
            return None
        if request.POST.get("confirmed") != "yes":
            ticked = {choice.ingester.pk for choice in choices if choice.known}
            return self._confirmation(request, queryset, choices, ticked)
        wanted = set(request.POST.getlist("ingester"))
        chosen = [choice.ingester for choice in choices if str(choice.ingester.pk) in wanted]
        note = note_of(request)
        if not chosen:
            return self._confirmation(
                request, queryset, choices, set(), note, "Choose at least one ingester."
            )
        self._rerun(request, queryset, chosen, note)
        return None

    def _confirmation(
        self,
        request: HttpRequest,
        queryset: QuerySet[Any],
        choices: list[Choice],
        ticked: set[int],
        note: str = "",
        error: str = "",
    ) -> HttpResponse:
        select_across = request.POST.get("select_across", "0")
        selected = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)
        if select_across == "1":
            # All that the list's filters match: one name stands for them.
            selected = selected[:1]
        context = {
            **self.admin_site.each_context(request),
            "title": "Try files again",
            "opts": self.opts,
            "count": queryset.count(),
            "names": self._names(queryset),
            "choices": [(choice, choice.ingester.pk in ticked) for choice in choices],
            "note": note,
            "note_chars": NOTE_CHARS,
            "error": error,
            "select_across": select_across,
            "selected": selected,
            "checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "action": "rerun_selected",
        }
        return TemplateResponse(request, "admin/ingest/rerun_confirmation.html", context)

    def _names(self, queryset: QuerySet[Any]) -> list[str]:
        rows = queryset.order_by("-pk")
        if self.model is not File:
            rows = rows.select_related("file")
        return [
            escape(row.path if isinstance(row, File) else row.file.path) for row in rows[:SHOWN]
        ]

    def _rerun(
        self,
        request: HttpRequest,
        queryset: QuerySet[Any],
        chosen: list[Ingester],
        note: str,
    ) -> None:
        # Read first: a request changes what the list's filters match.
        wanted = [(ingester, self.rerun_ids(queryset, ingester)) for ingester in chosen]
        logged = list(queryset.order_by().values_list("pk", flat=True)[: LOGGED + 1])
        user = request.user.get_username()
        for ingester, ids in wanted:
            if len(ids) > rerun_jobs.AT_ONCE:
                self._ask(request, ingester, ids, note)
                continue
            result = self.rerun_at(ids, ingester, user=user, note=note)
            text = f"RERUN at {ingester.name}: {result.sentence()}."
            level = messages.SUCCESS if result.asked else messages.WARNING
            self.message_user(request, text, level)
            note_too = f" Note: {note}" if note else ""
            self._log(request, logged, len(ids), f"{text}{note_too}")

    def _ask(self, request: HttpRequest, ingester: Ingester, ids: list[int], note: str) -> None:
        """Have very many files tried again in the background."""
        filters = request.GET.urlencode() if request.POST.get("select_across") == "1" else ""
        described = f"{len(ids)} chosen in the list of {self.opts.verbose_name_plural}"
        job = ask_for_many(
            request,
            ingester,
            self.rerun_files(ids),
            described=f"{described}, filtered by {filters}" if filters else described,
            note=note,
        )
        self.message_user(request, job_started(job), messages.SUCCESS)

    def _log(self, request: HttpRequest, ids: list[int], count: int, text: str) -> None:
        """Record it in the log of the admin: with each row, or once when they are many."""
        user_id = cast(int, request.user.pk)
        if len(ids) <= LOGGED:
            rows = self.model._default_manager.filter(pk__in=ids)
            LogEntry.objects.log_actions(user_id, rows, CHANGE, text)
            return
        LogEntry.objects.create(
            user_id=user_id,
            content_type=ContentType.objects.get_for_model(self.model),
            object_repr=f"{count} {self.opts.verbose_name_plural}",
            action_flag=CHANGE,
            change_message=text,
        )


class FileRerunAdmin(RerunAdmin):
    """RERUN for files: at which ingesters is to be chosen."""

    def rerun_choices(self, queryset: QuerySet[File]) -> list[Choice]:
        """Offer every ingester that reads the files' storage areas."""
        by_storage = dict(
            queryset.filter(stored_on__isnull=False)
            .order_by()
            .values_list("storage")
            .annotate(files=Count("pk"))
        )
        return [
            Choice(
                ingester,
                by_storage[ingester.storage_id],
                self.rerun_ingestions(queryset).filter(ingester=ingester).count(),
            )
            for ingester in Ingester.objects.filter(storage__in=by_storage).order_by("name")
        ]

    def rerun_ingestions(self, queryset: QuerySet[File]) -> QuerySet[Ingestion]:
        """Give what is known of the files."""
        return Ingestion.objects.filter(file__in=queryset.order_by().values("pk"))

    def rerun_ids(self, queryset: QuerySet[File], ingester: Ingester) -> list[int]:
        """Give the files that the ingester can try."""
        files = queryset.filter(storage=ingester.storage_id, stored_on__isnull=False)
        return list(files.order_by().values_list("pk", flat=True))

    def rerun_at(self, ids: list[int], ingester: Ingester, *, user: str, note: str) -> Result:
        """Ask for another attempt, or a first one."""
        return rerun_files(ids, ingester, user=user, note=note)

    def rerun_files(self, ids: list[int]) -> Iterator[int]:
        """Give them: they are files."""
        yield from ids


class IngestionRerunAdmin(RerunAdmin):
    """RERUN for ingestions."""

    def rerun_ingestions(self, queryset: QuerySet[Ingestion]) -> QuerySet[Ingestion]:
        """Give them."""
        return queryset


class EventRerunAdmin(RerunAdmin):
    """RERUN for the files of events."""

    def rerun_ingestions(self, queryset: QuerySet[FileEvent]) -> QuerySet[Ingestion]:
        """Give the ingestions that the events belong to, each once."""
        return of_events(queryset)
