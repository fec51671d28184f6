"""The Butler repository as the plugin `~ingest.plugins.gen3.Gen3Ingest` sees it."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from lsst.daf.butler import DatasetRef, FileDataset
from lsst.pipe.base import Instrument

from ingest.plugins.base import Outcome, PluginConfigError

from . import __version__
from .faults import describe, is_transient
from .headers import HeaderError, forbid_downloads
from .presence import Presence, locate, look_up
from .rawfile import RawFile, read_raw_file
from .rawtask import CallbackTask, accepted_arguments
from .registered import Registered
from .setup import STACK_RAW_TASK, open_butler, raw_task_class, raw_task_config, visit_task
from .uris import same_file, why_no_file
from .visits import VisitDefiner, has_visit

logger = logging.getLogger(__name__)

_RUN_ARGUMENTS = {
    "file_filter": r"\.fit[s]?\b",
    "group_files": True,
    "skip_existing_exposures": False,
    "update_exposure_records": False,
    "track_file_attrs": True,
}
"""Arguments of the task's ``run`` by configuration key, with the task's own defaults."""

_BATCH_ARGUMENTS = ("skip_existing_exposures", "update_exposure_records", "track_file_attrs")


class Target:
    """A repository, a task that ingests into it, and perhaps one that defines visits.

    Parameters
    ----------
    config : mapping
        The plugin's configuration.

    Raises
    ------
    ingest.plugins.base.PluginConfigError
        The configuration is wrong.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        repository = config.get("butler") or {}
        ingest = config.get("ingest") or {}
        visits = config.get("visits")
        if not repository.get("root"):
            raise PluginConfigError(
                "plugin.config.butler.root: required, expected the path of a Butler repository"
            )
        forbid_downloads()
        self._pid = os.getpid()
        self._run: str | None = repository.get("collection")
        self._butler = open_butler(os.fspath(repository["root"]), self._run)
        # Registers the metadata translators that the instruments' packages bring along.
        Instrument.importAll(self._butler.registry)
        self._registered = Registered(self._butler)
        self._refs: dict[str, list[DatasetRef]] = {}
        self._task_class = raw_task_class(ingest.get("task") or STACK_RAW_TASK)
        self._task_config = raw_task_config(self._task_class, ingest)
        self._transfer: str = self._task_config.transfer
        self._ingest_batch = self._make_ingest(ingest)
        self._visits: VisitDefiner | None = None
        if visits:
            self._visits = VisitDefiner(
                visit_task(visits, self._butler),
                self._butler,
                visits.get("collections"),
                bool(visits.get("update_records")),
            )

    def version(self) -> str:
        """Return the versions of the Butler and of the task's package."""
        task = str(self._task_class.__module__)
        parts = [f"lsst.daf.butler {_version('lsst.daf.butler')}"]
        if task.startswith("ingest.butler."):
            parts.append(f"ingest.butler {__version__}")
        elif task.startswith("lsst.obs.base"):
            parts.append(f"lsst.obs.base {_version('lsst.obs.base')}")
        else:
            parts.append(f"{task}.{self._task_class.__name__}")
        return ", ".join(parts)

    def ingest(self, paths: Sequence[str]) -> dict[str, Outcome]:
        """Ingest files, and define the visits of what the repository has then.

        Parameters
        ----------
        paths : sequence of `str`
            Absolute paths.

        Returns
        -------
        outcomes : `dict` of `str` to `ingest.plugins.base.Outcome`
            One for each path.
        """
        self._require_own_process()
        outcomes: dict[str, Outcome] = {}
        files: list[str] = []
        for path in dict.fromkeys(paths):
            problem = why_no_file(path)
            if problem is None:
                files.append(path)
            else:
                outcomes[path] = Outcome.failure(path, problem)
        if files:
            self._refs = {}
            outcomes.update(self._ingest_batch(files))
            outcomes.update(self._define_visits(outcomes))
        return outcomes

    def contains(self, paths: Sequence[str]) -> set[str]:
        """Return the paths of files that the repository has from just these paths.

        With ``visits`` configured, an exposure of the sky without a visit does not count, so that
        it will be completed.
        """
        self._require_own_process()
        self._registered.new_batch()
        # Another process may have written since: the one that died, say.
        self._registered.refresh()
        found: set[str] = set()
        for path in dict.fromkeys(paths):
            if why_no_file(path) is not None:
                continue
            try:
                raw, presence = self._look_up(path)
            except HeaderError:
                continue
            if presence.complete and (self._visits is None or has_visit(self._butler, raw.refs[0])):
                found.add(path)
        return found

    def _make_ingest(self, ingest: Mapping[str, Any]) -> Any:
        for name in ("pool", "processes"):
            if ingest.get(name) not in (None, 1):
                logger.info(
                    "plugin.config.ingest.%s is ignored: the ingester's workers (num_threads) are "
                    "processes already",
                    name,
                )
        # A default is left to the task: an older one may not know the argument.
        given = {
            name: ingest[name]
            for name, default in _RUN_ARGUMENTS.items()
            if ingest.get(name) not in (None, default)
        }
        if hasattr(self._task_class, "run_batch"):
            task = self._make_task(on_success=self._keep_refs)
            batch = {name: given[name] for name in _BATCH_ARGUMENTS if name in given}
            return lambda files: task.run_batch(files, run=self._run, **batch)
        arguments = accepted_arguments(self._task_class.run, {"run": self._run, **given})
        arguments.update(_one_worker(self._task_class.run))
        runner = CallbackTask(
            self._make_task, self._butler, arguments, self._transfer, self._look_up
        )

        def ingest_batch(files: Sequence[str]) -> dict[str, Outcome]:
            outcomes = runner.run_batch(files)
            self._refs = {os.path.abspath(path): refs for path, refs in runner.refs.items()}
            return outcomes

        return ingest_batch

    def _make_task(self, **callbacks: Any) -> Any:
        try:
            return self._task_class(config=self._task_config, butler=self._butler, **callbacks)
        except Exception as error:
            if is_transient(error):
                raise
            raise PluginConfigError(
                f"plugin.config.ingest.task: {self._task_class.__module__}."
                f"{self._task_class.__name__} cannot be set up ({describe(error)})"
            ) from error

    def _keep_refs(self, datasets: Sequence[FileDataset]) -> None:
        for dataset in datasets:
            self._refs[dataset.path.ospath] = list(dataset.refs)

    def _define_visits(self, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        if self._visits is None:
            return {}
        refs = {
            path: self._refs.get(os.path.abspath(path), [])
            for path, outcome in outcomes.items()
            if outcome.ok
        }
        return {
            path: Outcome.failure(
                path,
                "step visits: the raw is in the repository, but its visit could not be defined "
                f"({describe(error)}); RERUN repeats this step only",
                transient=is_transient(error),
            )
            for path, error in self._visits.define(refs).items()
        }

    def _look_up(self, path: str) -> tuple[RawFile, Presence]:
        raw = read_raw_file(path, self._butler, self._registered, self._run)
        presence = look_up(self._butler, [raw], self._transfer)[raw]
        if presence.rival is None and presence.absent:
            presence = self._look_closer(raw, presence)
        return raw, presence

    def _look_closer(self, raw: RawFile, presence: Presence) -> Presence:
        # Datasets may have random ids, if other software ingested them.
        absent = []
        for ref in presence.absent:
            uri = locate(self._butler, ref)
            if uri is None:
                absent.append(ref)
            elif not same_file(uri, raw.uri, self._transfer):
                return Presence(tuple(absent), uri)
        return Presence(tuple(absent), None)

    def _require_own_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                "a Butler must not be inherited across fork: load the plugin in the process that "
                "uses it"
            )


def _one_worker(function: Any) -> dict[str, int]:
    return {"num_workers": 1} if "num_workers" in inspect.signature(function).parameters else {}


def _version(module: str) -> str:
    try:
        return str(importlib.import_module(f"{module}.version").__version__)
    except (ImportError, AttributeError):
        try:
            return importlib.metadata.version(module.replace(".", "-"))
        except importlib.metadata.PackageNotFoundError:
            return "unknown"
