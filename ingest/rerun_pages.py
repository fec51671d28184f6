"""Asking for another attempt: one page that says what will happen, and pages of what goes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from buffer import shown
from buffer.admin_base import id_of
from buffer.components import live
from buffer.desk import desk_view, note_of, page, record, user_name
from buffer.models import ComponentKind, File
from ingest import rerun_jobs
from ingest.cause_pages import cause_url
from ingest.models import Ingester, RerunJob
from ingest.rerun import Result, rerun, rerun_files
from ingest.selection import Selection
from ingest.statuses import Status

#: Files that the confirmation names, and requests in the list of them.
_NAMED: Final = 20
_LISTED: Final = 100
_REFRESH_S: Final = 2


@desk_view("ingest.rerun", act="ingest.rerun")
def confirm(request: HttpRequest) -> HttpResponse:
    """Say how many files will be tried again and where; then ask for it.

    Which files: those of ``ingester`` with ``cause`` or ``status``, or one ``file``.
    """
    selection = _selection(request)
    count = 1 if _is_file(selection) else selection.ingestions().count()
    if request.method == "POST":
        return _ask(request, selection, count)
    context = {
        "ingester": selection.ingester,
        "described": described(selection),
        "count": count,
        "most": rerun_jobs.MOST,
        "at_once": rerun_jobs.AT_ONCE,
        "upto": rerun_jobs.newest_event(),
        "names": _names(selection),
    }
    return page(request, "desk/rerun.html", "Try files again", context)


@desk_view("ingest.view_rerunjob")
def jobs(request: HttpRequest) -> HttpResponse:
    """List the requests for many files, the newest first."""
    rows = RerunJob.objects.select_related("ingester").order_by("-pk")[:_LISTED]
    return page(request, "desk/jobs.html", "Requests for many files", {"jobs": rows})


@desk_view("ingest.view_rerunjob")
def job(request: HttpRequest, job_id: int) -> HttpResponse:
    """Show how far a request is."""
    row = get_object_or_404(RerunJob.objects.select_related("ingester"), pk=job_id)
    running = live(ComponentKind.INGESTER).filter(subject=row.ingester.name).exists()
    result = Result(row.asked, row.claimed, row.already, row.unfit)
    context = {"job": row, "running": running, "sentence": result.sentence()}
    answer = page(request, "desk/job.html", "A request for many files", context)
    if row.finished_on is None:
        answer["Refresh"] = str(_REFRESH_S)
    return answer


def described(selection: Selection) -> str:
    """Say in words which files of its ingester are meant."""
    if selection.cause is not None:
        return f"with the cause: {shown.message(selection.cause) or '(no message)'}"
    if _is_file(selection):
        return ", ".join(_names(selection))
    return f"with the status {' or '.join(selection.statuses)}"


def ask_for_many(
    request: HttpRequest,
    ingester: Ingester,
    file_ids: Iterable[int],
    *,
    described: str,
    note: str,
) -> RerunJob:
    """Have many files tried again in the background, and log who asked for it."""
    user = user_name(request)
    row = rerun_jobs.ask(ingester, file_ids, described=described, user=user, note=note)
    record(request, row, f"RERUN at {ingester.name}: {row.total} files {described}. Note: {note}")
    return row


def job_started(row: RerunJob) -> SafeString:
    """Say that a request goes on in the background, with a link to its progress."""
    return format_html(
        'RERUN at {}: {} files are tried again in the background, by its command: <a href="{}">'
        "see how far it is</a>.",
        row.ingester.name,
        row.total,
        reverse("ingest:job", args=[row.pk]),
    )


def _ask(request: HttpRequest, selection: Selection, count: int) -> HttpResponse:
    ingester, note = selection.ingester, note_of(request)
    if count > rerun_jobs.MOST:
        messages.error(request, f"{count} files are too many ({rerun_jobs.MOST} at most).")
        return redirect(request.get_full_path())
    if count > rerun_jobs.AT_ONCE:
        ids = selection.ingestions().values_list("file", flat=True)
        row = ask_for_many(
            request, ingester, ids.iterator(), described=described(selection), note=note
        )
        return redirect("ingest:job", row.pk)
    user = user_name(request)
    if _is_file(selection):
        result = rerun_files(selection.file_ids or (), ingester, user=user, note=note)
    else:
        result = rerun(selection.ingestions(), user=user, note=note)
    text = f"RERUN at {ingester.name}: {result.sentence()}."
    messages.add_message(request, messages.SUCCESS if result.asked else messages.WARNING, text)
    about = File.objects.get(pk__in=selection.file_ids) if selection.file_ids else ingester
    record(request, about, f"{text} Files: {described(selection)}. Note: {shown.message(note)}")
    return redirect(_back(selection))


def _back(selection: Selection) -> str:
    if selection.cause is not None:
        # Where its files were.
        return cause_url(selection.ingester.pk, selection.cause)
    if selection.file_ids:
        return reverse("admin:buffer_file_change", args=list(selection.file_ids))
    return reverse("ingest:causes", args=[selection.ingester.pk])


def _selection(request: HttpRequest) -> Selection:
    """Read what is meant from the address; 404 if that is not clear."""
    wanted = request.GET
    ingester = get_object_or_404(Ingester, pk=id_of(wanted.get("ingester")))
    upto = id_of(request.POST.get("upto")) if request.method == "POST" else None
    if "file" in wanted:
        file = get_object_or_404(File.objects.stored(), pk=id_of(wanted["file"]))
        if file.storage_id != ingester.storage_id:
            raise Http404
        return Selection(ingester, file_ids=[file.pk])
    if "cause" in wanted:
        if not shown.is_text(wanted["cause"]):
            raise Http404
        return Selection(ingester, cause=wanted["cause"], upto_event=upto)
    statuses = wanted.getlist("status")
    if not statuses or not set(statuses) <= set(Status.values):
        raise Http404
    return Selection(ingester, statuses=[Status(word) for word in statuses], upto_event=upto)


def _is_file(selection: Selection) -> bool:
    return selection.file_ids is not None


def _names(selection: Selection) -> list[str]:
    if selection.file_ids is not None:
        return [str(file) for file in File.objects.filter(pk__in=selection.file_ids)]
    rows: Any = selection.ingestions().select_related("file").order_by("-pk")
    return [str(row.file) for row in rows[:_NAMED]]
