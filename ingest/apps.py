"""The `ingest` application."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate, pre_migrate


class IngestConfig(AppConfig):
    name = "ingest"
    verbose_name = "Ingestion"

    def ready(self) -> None:
        from buffer import alerts
        from ingest import groups, sqlviews
        from ingest.alerts import readings

        alerts.sources.append(readings)

        pre_migrate.connect(sqlviews.before_migrate, sender=self)
        post_migrate.connect(sqlviews.after_migrate, sender=self)
        # Of the first application, before Django makes the permissions of any.
        post_migrate.connect(groups.after_migrate, sender=apps.get_app_config("buffer"))
