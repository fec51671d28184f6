"""The admin, and what monitoring asks for."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from ingest import monitoring

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    # Before the admin's own, the last of which takes every address.
    path("admin/", include("buffer.urls")),
    path("admin/", include("ingest.urls")),
    path("admin/", admin.site.urls),
    path("healthz", monitoring.healthz),
    path("readyz", monitoring.readyz),
    path("metrics", monitoring.metrics),
]
