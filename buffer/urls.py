"""Pages by which an operator finds a file, decides conflicts, and pauses finders and ingesters."""

from __future__ import annotations

from django.urls import path

from buffer import conflict_pages, find_page, pause_pages

app_name = "buffer"

urlpatterns = [
    path("conflicts/", conflict_pages.conflicts, name="conflicts"),
    path("conflicts/<int:refusal_id>/", conflict_pages.conflict, name="conflict"),
    path("find/", find_page.find, name="find"),
    path("pausing/", pause_pages.pausing, name="pausing"),
]
