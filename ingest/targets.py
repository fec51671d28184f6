"""Ingesters as they are named in YAML files: their rows, and what their workers must know."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.db.models import Max
from django.utils import timezone

from buffer.components import live
from buffer.models import Component, ComponentKind, Storage
from buffer.problems import ConfigError
from ingest import claims, plugins, sqlviews, tallies
from ingest.claims import Lane
from ingest.config import IngesterFile, IngesterSection
from ingest.models import FileEvent, Ingester
from ingest.statuses import CLAIMABLE, DEFAULT_WANTED, Status

logger = logging.getLogger(__name__)


def register(config: IngesterFile, storage: Storage) -> Ingester:
    """Find an ingester by its name, or begin one, and record how it is started now.

    Parameters
    ----------
    config : `IngesterFile`
        The ingester's YAML file.
    storage : `Storage`
        The storage area that it reads.

    Raises
    ------
    ConfigError
        The name belongs to another plugin or another storage: a history must not be mixed.
    """
    plugin = config.ingester.plugin.name
    ingester, _ = Ingester.objects.get_or_create(name=config.name, defaults={"storage": storage})
    other = (
        f"the storage '{ingester.storage}'"
        if ingester.storage_id != storage.pk
        else f"the plugin {ingester.plugin}"
        if ingester.plugin not in ("", plugin)
        else None
    )
    if other is not None:
        raise ConfigError(
            f"database.tablenames.event.table: the ingester '{config.name}' is known with {other},"
            f" and this file says {plugin} and storage '{storage}'. Its history belongs to that"
            " target: choose another event table name for this one"
        )
    now = timezone.now()
    ingester.plugin = plugin
    ingester.settings = _plain(config.ingester)
    ingester.started_on = ingester.seen_on = now
    ingester.save(update_fields=["plugin", "settings", "started_on", "seen_on"])
    tallies.begin(ingester.pk)
    # Another run of it may have other settings.
    alone = not live(ComponentKind.INGESTER, subject=ingester.name).exists()
    if alone and (given_up := claims.forget_due(ingester.pk, due_statuses(config.ingester))):
        logger.warning(
            "ingester %s: %d files were to be tried again by themselves, and are not any more: this"
            " configuration has no ingester.retry for them; rerun them",
            ingester.name,
            given_up,
        )
    sqlviews.ensure(ingester)
    return ingester


def due_statuses(section: IngesterSection) -> list[Status]:
    """Give the statuses of which files are taken again by themselves, when their time has come."""
    # Files whose outcome is unknown: the plugin may be able to tell.
    due = [Status.UNKNOWN]
    if section.retry is not None:
        due.append(Status.FAILURE)
    # Those that were given back untried are due, too.
    taken = set(section.file_status).difference(DEFAULT_WANTED, due)
    return due + [status for status in CLAIMABLE if status in taken]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an ingester, as its workers know it.

    Parameters
    ----------
    ingester_id : `int`
        Whose files.
    name : `str`
        The ingester's name.
    root : `str`
        The storage area as it is mounted here.
    section : `IngesterSection`
        The ``ingester`` section of the YAML file.
    first_event : `int`
        Id of the newest event when the run began.
    id : `int`, optional
        Id of its command's component, where a worker of the command has it.
    """

    ingester_id: int
    name: str
    root: str
    section: IngesterSection
    first_event: int
    id: int | None = None

    def settings(self) -> dict[str, Any]:
        """Write it down for the workers."""
        return {
            "ingester": self.ingester_id,
            "name": self.name,
            "root": self.root,
            "section": _plain(self.section),
            "first_event": self.first_event,
        }

    @classmethod
    def load(cls, run_id: int) -> Run:
        """Read what the command wrote down under its component's id."""
        settings = Component.objects.get(pk=run_id).settings
        return cls(
            ingester_id=settings["ingester"],
            name=settings["name"],
            root=settings["root"],
            section=IngesterSection.model_validate(settings["section"]),
            first_event=settings["first_event"],
            id=run_id,
        )

    @classmethod
    def begin(cls, ingester: Ingester, section: IngesterSection) -> Run:
        """Begin a run now."""
        newest = FileEvent.objects.aggregate(newest=Max("id"))["newest"] or 0
        root = str(section.storage or Path(ingester.storage.root))
        return cls(ingester.pk, ingester.name, root, section, newest)

    @property
    def plugin(self) -> str:
        """Dotted path of the plugin's class."""
        return plugins.resolve(self.section.plugin.name, django_settings.INGEST_PLUGINS)

    def lanes(self) -> Sequence[Lane]:
        """Give what this run claims, in the order in which it does.

        What an operator asked for goes first; then what is due again, for it has waited longest.
        """
        wanted = [status for status in CLAIMABLE if status in self.section.file_status]
        lanes = [Lane(status) for status in wanted if status == Status.RERUN]
        # Outcomes that a run takes once: those that were there when it began.
        outcomes = [status for status in wanted if status not in DEFAULT_WANTED]
        lanes += [Lane(status, due=True) for status in due_statuses(self.section)]
        lanes += [Lane(status) for status in wanted if status == Status.UNTRIED]
        lanes += [Lane(status, before_event=self.first_event) for status in outcomes]
        return lanes

    def cannot_load(self, error: Exception) -> str:
        """Say for an operator that the plugin cannot be loaded now."""
        return f"plugin {self.section.plugin.name} cannot be loaded: {error}"


def _plain(section: IngesterSection) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(section.model_dump_json(by_alias=True))
    return plain
