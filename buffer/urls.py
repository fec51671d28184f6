"""Pages by which an operator acts on what the finder did not take in."""

from __future__ import annotations

from django.urls import path

from buffer import conflict_pages

app_name = "buffer"

urlpatterns = [
    path("conflicts/", conflict_pages.conflicts, name="conflicts"),
    path("conflicts/<int:refusal_id>/", conflict_pages.conflict, name="conflict"),
]
