"""The `buffer` application."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate


class BufferConfig(AppConfig):
    name = "buffer"
    verbose_name = "Files"

    def ready(self) -> None:
        from buffer import checks, patience, sqlviews  # noqa: F401

        patience.install()
        pre_migrate.connect(sqlviews.before_migrate, sender=self)
        post_migrate.connect(sqlviews.after_migrate, sender=self)
