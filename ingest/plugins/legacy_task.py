"""The legacy Gen2 ingest task: which class it is, and what it says while it works."""

from __future__ import annotations

import contextlib
import importlib
import logging
from typing import Any

from ingest.host_protocol import describe
from ingest.plugins.base import PluginConfigError


def import_task(dotted: str) -> Any:
    """Return the task class of that dotted path.

    Raises
    ------
    PluginConfigError
        If it cannot be imported or lacks the legacy interface.
    """
    key = "plugin.config.ingest.task"
    module_name, _, name = dotted.rpartition(".")
    try:
        task = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
        raise PluginConfigError(
            f"{key}: {dotted} cannot be imported ({describe(error)}). The Gen2 middleware was "
            f"removed from the LSST pipelines after v24; install the LSST pipelines v24 or "
            f"earlier for the Python that runs this program (missing package: "
            f"{missing or module_name or dotted}), use Gen3Ingest, or name a task with "
            f"prepareTask and ingestFiles"
        ) from error
    if not callable(getattr(task, "prepareTask", None)):
        raise PluginConfigError(
            f"{key}: {dotted} has no prepareTask, expected a task with the interface of "
            f"lsst.pipe.tasks.ingest.IngestTask (v24)"
        )
    return task


class Warnings(logging.Handler):
    """Collects what is logged as a warning while one file is ingested."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def __enter__(self) -> Warnings:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *exc: object) -> None:
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name.startswith(f"{__package__}.")
        if not ours and len(self.texts) < 20:
            with contextlib.suppress(Exception):
                self.texts.append(record.getMessage())

    @property
    def already_ingested(self) -> bool:
        """Whether the task found the file's data ID in the registry."""
        return any("already ingested" in text for text in self.texts)

    def as_reason(self) -> str:
        """Return the warnings to be put behind a failure's message."""
        return "; the task warned: " + "; ".join(self.texts) if self.texts else ""
