"""Pages by which an operator acts on what became of files at their targets."""

from __future__ import annotations

from django.urls import path

from ingest import cause_pages, file_page, rerun_pages

app_name = "ingest"

urlpatterns = [
    path("causes/", cause_pages.overview, name="all_causes"),
    path("causes/<int:ingester_id>/", cause_pages.causes, name="causes"),
    path("causes/<int:ingester_id>/one/", cause_pages.cause, name="cause"),
    path("files/<int:file_id>/verify/", file_page.verify_now, name="verify"),
    path("rerun/", rerun_pages.confirm, name="rerun"),
    path("rerun/jobs/", rerun_pages.jobs, name="jobs"),
    path("rerun/jobs/<int:job_id>/", rerun_pages.job, name="job"),
]
