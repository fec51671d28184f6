"""Outcomes from ``lsst.obs.base.RawIngestTask``, or whatever has its interface.

The task reports by callbacks and does not report everything.  An unknown filter, or a file without
a header, ends a batch with an exception that concerns one file and names none; one file that is
there already takes the other detectors of its exposure down.  So what a batch leaves open, and
what failed in company, is tried again alone.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lsst.daf.butler import Butler, DatasetRef, FileDataset
from lsst.daf.butler.registry import ConflictingDefinitionError, DataIdError
from lsst.resources import ResourcePath

from ingest.plugins.base import Outcome
from ingest.plugins.troubles import chain

from .faults import describe, is_database_trouble, is_transient
from .presence import Presence, conflict_message
from .rawfile import RawFile
from .results import ALREADY
from .uris import same_file, to_uri

__all__ = ["CallbackTask", "accepted_arguments"]

logger = logging.getLogger(__name__)


@dataclass
class _Report:
    """What one call of the task said, by path."""

    by_uri: dict[str, str]
    refs: dict[str, list[DatasetRef]] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    in_company: set[str] = field(default_factory=set)
    escaped: Exception | None = None

    def path_of(self, name: str | ResourcePath) -> str | None:
        uri = to_uri(name) if isinstance(name, str) and "://" not in name else ResourcePath(name)
        path = self.by_uri.get(uri.geturl())
        if path is None:
            logger.warning("the ingest task reported a file it was not given: %s", uri)
        return path


class CallbackTask:
    """Calls a task and gives each file an outcome.

    Parameters
    ----------
    make_task : callable
        Makes the task, given its four callbacks as keyword arguments.
    butler : `lsst.daf.butler.Butler`
        The repository that the task works on.
    arguments : mapping
        Further arguments of the task's ``run``.
    transfer : `str`
        How files get into the repository.
    look_up : callable
        Given a path, says what the file is and how much of it the repository has.
    """

    def __init__(
        self,
        make_task: Callable[..., Any],
        butler: Butler,
        arguments: Mapping[str, Any],
        transfer: str,
        look_up: Callable[[str], tuple[RawFile, Presence]],
    ) -> None:
        self._make_task = make_task
        self._butler = butler
        self._arguments = dict(arguments)
        self._transfer = transfer
        self._look_up = look_up
        self._report = _Report({})
        self._may_refresh = True
        self._task = self._new_task()
        self.refs: dict[str, list[DatasetRef]] = {}

    def run_batch(self, paths: Sequence[str]) -> dict[str, Outcome]:
        """Ingest files.

        Parameters
        ----------
        paths : sequence of `str`
            Absolute paths of existing files, none of them twice.

        Returns
        -------
        outcomes : `dict` of `str` to `ingest.plugins.base.Outcome`
            One for each.  `refs` holds the datasets of those that the repository has.
        """
        self._may_refresh = True
        self.refs = {}
        report = self._run(paths)
        outcomes: dict[str, Outcome] = {}
        for path in paths:
            outcomes[path] = self._conclude(path, report, alone=len(paths) == 1)
        return outcomes

    def _run(self, paths: Sequence[str]) -> _Report:
        uris = [to_uri(path) for path in paths]
        self._report = report = _Report(
            {uri.geturl(): path for uri, path in zip(uris, paths, strict=True)}
        )
        try:
            self._task.run(uris, **self._arguments)
        except Exception as error:
            # "Some failures" at the end of a batch is no news; an exception without a callback is.
            report.escaped = error
        return report

    def _conclude(self, path: str, report: _Report, alone: bool) -> Outcome:
        if path in report.refs:
            return self._succeed(path, report.refs[path])
        error = report.errors.get(path) or report.escaped
        if error is not None and is_database_trouble(error):
            return Outcome.failure(path, describe(error), transient=True)
        unclear = path not in report.errors or path in report.in_company
        if unclear and not alone:
            return self._conclude(path, self._run([path]), alone=True)
        if error is not None and _is_stale(error) and self._may_refresh:
            # An instrument, detector or filter may have been registered since the task was made,
            # which keeps what it found then.
            self._may_refresh = False
            self._butler.registry.refresh()
            self._task = self._new_task()
            return self._conclude(path, self._run([path]), alone=True)
        if error is None:
            return Outcome.failure(path, "the ingest task said nothing about this file")
        if isinstance(error, ConflictingDefinitionError):
            return self._settle_conflict(path, error)
        return Outcome.failure(path, _message(error), transient=is_transient(error))

    def _succeed(self, path: str, refs: list[DatasetRef]) -> Outcome:
        self.refs[path] = refs
        if not self._arguments.get("skip_existing_exposures"):
            return Outcome.success(path)
        # Then the task reports success for a conflict as well.
        for ref in refs:
            uri = self._butler.getURI(ref)
            if not same_file(uri, to_uri(path), self._transfer):
                return Outcome.success(path, f"skipped: the repository has it from {uri}")
        return Outcome.success(path)

    def _settle_conflict(self, path: str, error: Exception) -> Outcome:
        try:
            raw, presence = self._look_up(path)
        except Exception as second:
            return Outcome.failure(path, describe(error), transient=is_transient(second))
        if presence.rival is not None:
            return Outcome.failure(path, conflict_message(raw, presence.rival))
        if presence.complete:
            self.refs[path] = list(raw.refs)
            return Outcome.success(path, ALREADY)
        return Outcome.failure(path, f"conflict: {describe(error)}")

    def _new_task(self) -> Any:
        return self._make_task(
            on_success=self._on_success,
            on_metadata_failure=self._on_metadata_failure,
            on_ingest_failure=self._on_ingest_failure,
            on_exposure_record=self._on_exposure_record,
        )

    # A callback that raises ends the task's batch, so none of these ever does.

    def _on_success(self, datasets: Iterable[FileDataset]) -> None:
        try:
            for dataset in datasets:
                path = self._report.path_of(dataset.path)
                if path is not None:
                    self._report.refs.setdefault(path, []).extend(dataset.refs)
        except Exception:
            logger.exception("cannot understand what the ingest task reported as a success")

    def _on_metadata_failure(self, filename: ResourcePath, error: Exception) -> None:
        try:
            path = self._report.path_of(filename)
            if path is not None:
                self._report.errors[path] = error
        except Exception:
            logger.exception("cannot understand what the ingest task reported as a bad header")

    def _on_ingest_failure(self, exposure: Any, error: Exception) -> None:
        try:
            files = list(exposure.files)
            for file in files:
                path = self._report.path_of(file.filename)
                if path is not None:
                    self._report.errors[path] = error
                    if len(files) > 1:
                        self._report.in_company.add(path)
        except Exception:
            logger.exception("cannot understand what the ingest task reported as a failure")

    def _on_exposure_record(self, record: Any) -> None:
        logger.debug("exposure record: %s", record)


def accepted_arguments(function: Callable[..., Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Keep those keyword arguments that a function knows, and log the others.

    Parameters
    ----------
    function : callable
        A task's ``run``, whose arguments come and go with the stack's versions.
    wanted : mapping
        Arguments by name.

    Returns
    -------
    arguments : `dict`
        Those that can be passed.
    """
    parameters = inspect.signature(function).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return dict(wanted)
    for name in wanted:
        if name not in parameters:
            logger.warning("plugin.config: the task has no argument %s; ignored", name)
    return {name: value for name, value in wanted.items() if name in parameters}


def _is_stale(error: Exception) -> bool:
    # The registry raises a bare LookupError for an instrument; KeyError and IndexError, which
    # come of bad headers, are LookupErrors too.
    return any(isinstance(link, DataIdError) or type(link) is LookupError for link in chain(error))


def _message(error: Exception) -> str:
    if isinstance(error, IndexError):
        return f"no header in the file can be translated ({describe(error)})"
    if any(isinstance(link, DataIdError) for link in chain(error)):
        return (
            f"detector or filter not registered in the repository ({describe(error)}); if it is "
            "right, run: butler register-instrument --update REPOSITORY CLASS"
        )
    if any(type(link) is LookupError for link in chain(error)):
        return f"{describe(error)}; run: butler register-instrument REPOSITORY CLASS"
    return describe(error)
