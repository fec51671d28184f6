"""From the plugin's configuration to an open repository and configured tasks.

Whatever an operator can get wrong raises `PluginConfigError` with the key and the remedy;
whatever waiting may cure (a database that does not answer) is raised as it came.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from lsst.daf.butler import Butler, CollectionType, MissingCollectionError
from lsst.daf.butler.registry.interfaces import ReadOnlyDatabaseError
from lsst.pipe.base import Instrument

from buffer.names import escape
from ingest.plugins.base import PluginConfigError

from .faults import describe, is_transient

logger = logging.getLogger(__name__)

STACK_RAW_TASK: Final = "lsst.obs.base.RawIngestTask"
STACK_VISIT_TASK: Final = "lsst.obs.base.DefineVisitsTask"
OWN_RAW_TASK: Final = "ingest.butler.task.ButlerIngestTask"


def open_butler(root: str, collection: str | None) -> Butler:
    """Open a repository for writing.

    Parameters
    ----------
    root : `str`
        Path or URI of the repository (``butler.root``).
    collection : `str` or `None`
        RUN collection that raws will go to (``butler.collection``).

    Returns
    -------
    butler : `lsst.daf.butler.Butler`
        For this process and thread only.

    Raises
    ------
    PluginConfigError
        It is no repository, cannot be written to, or the collection is of another kind.
    """
    shown = escape(root)
    uri = Butler.get_repo_uri(root, return_label=True)
    if not Butler.has_repo_config(uri):
        state = "is not a Butler repository" if os.path.isdir(root) else "does not exist"
        raise PluginConfigError(
            f"plugin.config.butler.root: {shown} {state}; name a repository's directory, or make "
            f"one: butler create {shown}, then butler register-instrument {shown} CLASS"
        )
    try:
        butler = Butler.from_config(uri, writeable=True)
    except ReadOnlyDatabaseError as error:
        raise PluginConfigError(
            f"plugin.config.butler.root: the repository {shown} cannot be written to; "
            "give this user write permission to its directory and database"
        ) from error
    except Exception as error:
        if is_transient(error):
            raise
        raise PluginConfigError(
            f"plugin.config.butler.root: the repository {shown} cannot be opened "
            f"({describe(error)})"
        ) from error
    if collection is not None:
        _require_run_collection(butler, collection)
    return butler


def _require_run_collection(butler: Butler, collection: str) -> None:
    try:
        kind = butler.collections.get_info(collection).type
    except MissingCollectionError:
        return
    if kind is not CollectionType.RUN:
        raise PluginConfigError(
            f"plugin.config.butler.collection: {escape(collection)} is a {kind.name} collection; "
            "expected a RUN collection, or a new name for one"
        )


def raw_task_class(name: str) -> Any:
    """Import the class that ingests raws.

    Parameters
    ----------
    name : `str`
        Its dotted name (``ingest.task``).  The stack's task, which is the default, is replaced by
        ours where there is no ``lsst.obs.base`` at all.

    Returns
    -------
    task_class : `type`
        With the interface of ``lsst.obs.base.RawIngestTask``.
    """
    if name == STACK_RAW_TASK and not has_module("lsst.obs.base"):
        logger.info("lsst.obs.base is not installed: ingesting with %s", OWN_RAW_TASK)
        name = OWN_RAW_TASK
    return import_class(name, "plugin.config.ingest.task")


def import_class(name: str, key: str) -> Any:
    """Import a class by its dotted name; the key is named if that fails."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise PluginConfigError(
            f"{key}: {escape(name)} cannot be imported ({describe(error)}); install or set up the "
            "package that has it, or correct the name"
        ) from error


def has_module(name: str) -> bool:
    """Tell whether a module is installed, without importing more than its parents."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def raw_task_config(task_class: Any, settings: Mapping[str, Any]) -> Any:
    """Make a raw task's configuration.

    Parameters
    ----------
    task_class : `type`
        The task.
    settings : mapping
        The section ``plugin.config.ingest``.  ``transfer`` comes first, then what ``config_file``
        overrides, then what ``config`` sets.

    Returns
    -------
    config : `lsst.pex.config.Config`
        An instance of the task's ``ConfigClass``.
    """
    config = task_class.ConfigClass()
    _assign(config, "transfer", settings.get("transfer") or "direct", "plugin.config.ingest")
    _load_file(config, settings.get("config_file"), "plugin.config.ingest.config_file")
    for name, value in (settings.get("config") or {}).items():
        _assign(config, str(name), value, "plugin.config.ingest.config")
    if config.transfer == "move":
        raise PluginConfigError(
            "plugin.config.ingest.transfer: move would take the file out of the storage area; "
            "expected direct, copy, link, hardlink, symlink or relsymlink"
        )
    return config


def visit_task(settings: Mapping[str, Any], butler: Butler) -> Any:
    """Make the task that defines visits.

    Parameters
    ----------
    settings : mapping
        The section ``plugin.config.visits``.
    butler : `lsst.daf.butler.Butler`
        The repository.

    Returns
    -------
    task : `object`
        With the interface of ``lsst.obs.base.DefineVisitsTask``.
    """
    name = settings.get("task") or STACK_VISIT_TASK
    if name == STACK_VISIT_TASK and not has_module("lsst.obs.base"):
        raise PluginConfigError(
            "plugin.config.visits: visits are defined by lsst.obs.base.DefineVisitsTask, which is "
            "not installed here; set up the LSST stack, or remove the section visits"
        )
    task_class = import_class(name, "plugin.config.visits.task")
    label = settings.get("instrument")
    if not label:
        raise PluginConfigError("plugin.config.visits.instrument: required, expected a name")
    try:
        instrument = Instrument.from_string(label, butler.registry)
    except (RuntimeError, TypeError) as error:
        if is_transient(error):
            raise
        raise PluginConfigError(
            f"plugin.config.visits.instrument: {escape(label)} cannot be used ({describe(error)}); "
            "register it: butler register-instrument REPOSITORY CLASS"
        ) from error
    config = task_class.ConfigClass()
    instrument.applyConfigOverrides(getattr(task_class, "_DefaultName", "defineVisits"), config)
    _load_file(config, settings.get("config_file"), "plugin.config.visits.config_file")
    return task_class(config=config, butler=butler)


def _load_file(config: Any, path: str | None, key: str) -> None:
    if path is None:
        return
    if not os.path.isfile(path):
        raise PluginConfigError(f"{key}: {escape(path)} is not a file")
    try:
        config.load(path)
    except Exception as error:
        raise PluginConfigError(
            f"{key}: {escape(path)} is no valid configuration of the task ({describe(error)})"
        ) from error


def _assign(config: Any, name: str, value: Any, section: str) -> None:
    *parents, last = name.split(".")
    target = config
    try:
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, last, value)
    except Exception as error:
        raise PluginConfigError(
            f"{section}.{escape(name)}: the task {type(config).__name__} does not take "
            f"{value!r} ({describe(error)})"
        ) from error
