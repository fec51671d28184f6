"""One batch of raw files: translate, look up, ingest, and say what became of each.

Headers are read outside the transaction, since that takes longest.  Within it each exposure's
records are written under a savepoint, so that an exposure that contradicts the repository takes
only its own files down, and one call ingests all files.  When that call fails, nothing of the
batch is in the repository, and the files are tried one by one: each then gets an error of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lsst.daf.butler import Butler, DatasetRef, DimensionRecord, FileDataset
from lsst.daf.butler.registry import ConflictingDefinitionError, DataIdError
from lsst.resources import ResourcePath

from ingest.plugins.base import Outcome

from .faults import describe, is_database_trouble, is_transient
from .headers import HeaderError
from .presence import conflict_message, locate, look_up
from .rawfile import RawFile, read_raw_file
from .records import ELEMENTS
from .registered import Registered
from .results import ALREADY, ConflictError, FileResult, Options
from .uris import same_file

__all__ = ["Batch"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pending:
    """A raw that is to be ingested, and those of its datasets that are not there yet."""

    raw: RawFile
    absent: tuple[DatasetRef, ...]


class Batch:
    """Ingest one batch; use once.

    Parameters
    ----------
    butler : `lsst.daf.butler.Butler`
        The repository.
    registered : `.registered.Registered`
        What it knows.
    options : `Options`
        How.
    on_exposure_record : callable
        Called with each exposure record that was added or changed, after the commit.
    """

    def __init__(
        self,
        butler: Butler,
        registered: Registered,
        options: Options,
        on_exposure_record: Callable[[DimensionRecord], object],
    ) -> None:
        self._butler = butler
        self._registered = registered
        self._options = options
        self._on_exposure_record = on_exposure_record
        self._results: dict[str, FileResult] = {}

    def run(self, paths: Iterable[str]) -> dict[str, FileResult]:
        """Ingest files.

        Parameters
        ----------
        paths : iterable of `str`
            Absolute paths.  One that is repeated is ingested once.

        Returns
        -------
        results : `dict` of `str` to `FileResult`
            One for every path.
        """
        self._registered.new_batch()
        raws = [raw for path in dict.fromkeys(paths) if (raw := self._read(path)) is not None]
        while raws:
            # Of files with the same data ID the first is tried first.  If it gets in, the others
            # are conflicts like any other; if it does not, the next one has its chance.
            first, raws = _without_rivals(raws)
            self._settle(first)
        return self._results

    def _read(self, path: str) -> RawFile | None:
        try:
            return self._read_fresh(path)
        except Exception as error:
            self._fail(path, None, error)
            return None

    def _read_fresh(self, path: str) -> RawFile:
        try:
            return read_raw_file(path, self._butler, self._registered, self._options.run)
        except DataIdError:
            # Something was registered elsewhere since we looked.
            self._registered.refresh()
            return read_raw_file(path, self._butler, self._registered, self._options.run)

    def _settle(self, raws: Sequence[RawFile]) -> None:
        try:
            presences = look_up(self._butler, raws, self._options.transfer)
        except Exception as error:
            self._divide(raws, error, self._settle)
            return
        pending = []
        for raw, presence in presences.items():
            if presence.rival is not None:
                self._conflict(raw, presence.rival)
            elif presence.complete and not self._options.update_exposure_records:
                self._succeed(raw, ALREADY)
            else:
                pending.append(_Pending(raw, presence.absent))
        self._ingest(pending)

    def _ingest(self, pending: Sequence[_Pending]) -> None:
        if not pending:
            return
        try:
            for run in {item.raw.refs[0].run for item in pending}:
                self._registered.run(run)
            refused, changed = self._transact(pending)
        except Exception as error:
            self._divide(pending, error, self._ingest)
            return
        for item in pending:
            if item.raw in refused:
                self._fail(item.raw.path, item.raw, refused[item.raw])
            else:
                self._succeed(item.raw, "" if item.absent else ALREADY)
        for record in changed:
            self._on_exposure_record(record)

    def _transact(
        self, pending: Sequence[_Pending]
    ) -> tuple[dict[RawFile, Exception], list[DimensionRecord]]:
        refused: dict[RawFile, Exception] = {}
        changed: list[DimensionRecord] = []
        datasets: list[FileDataset] = []
        with self._butler.transaction():
            for items in _by_exposure(pending):
                try:
                    changed += self._write_records(items[0].raw)
                except Exception as error:
                    if is_transient(error):
                        raise
                    refused.update((item.raw, error) for item in items)
                else:
                    datasets += [item.raw.dataset(item.absent) for item in items if item.absent]
            if datasets and not self._options.skip_ingest:
                self._butler.ingest(
                    *datasets,
                    transfer=self._options.transfer,
                    record_validation_info=self._options.track_file_attrs,
                )
        return refused, changed

    def _write_records(self, raw: RawFile) -> list[DimensionRecord]:
        registry = self._butler.registry
        changed: list[DimensionRecord] = []
        with registry.transaction(savepoint=True):
            for element in ELEMENTS:
                record = raw.records[element]
                update = self._options.update_exposure_records and element == "exposure"
                if registry.syncDimensionData(element, record, update=update):
                    changed.append(record)
        return [record for record in changed if record.definition.name == "exposure"]

    def _divide(
        self,
        items: Sequence[Any],
        error: Exception,
        again: Callable[[Sequence[Any]], None],
    ) -> None:
        """Go on after an error that took down all items: one by one, or give up."""
        # A database that does not answer will not answer for each file either, and each would
        # wait for its time-out.
        if len(items) > 1 and not is_database_trouble(error):
            logger.info(
                "%d files together: %s; trying them one by one", len(items), describe(error)
            )
            for item in items:
                again([item])
            return
        for item in items:
            raw = item.raw if isinstance(item, _Pending) else item
            self._fail_alone(raw, error)

    def _fail_alone(self, raw: RawFile, error: Exception) -> None:
        if isinstance(error, ConflictingDefinitionError):
            # Somebody else was faster, or the repository's file is gone: ask more thoroughly.
            try:
                uris = [uri for ref in raw.refs if (uri := locate(self._butler, ref)) is not None]
            except Exception as second:
                self._fail(raw.path, raw, second)
                return
            rivals = [uri for uri in uris if not same_file(uri, raw.uri, self._options.transfer)]
            if rivals:
                self._conflict(raw, rivals[0])
                return
            if len(uris) == len(raw.refs):
                self._succeed(raw, ALREADY)
                return
        self._fail(raw.path, raw, error)

    def _succeed(self, raw: RawFile, note: str) -> None:
        self._results[raw.path] = FileResult(Outcome.success(raw.path, note), raw)

    def _conflict(self, raw: RawFile, rival: ResourcePath) -> None:
        message = conflict_message(raw, rival)
        if self._options.skip_existing_exposures:
            self._succeed(raw, f"skipped ({message})")
        else:
            self._fail(raw.path, raw, ConflictError(message))

    def _fail(self, path: str, raw: RawFile | None, error: Exception) -> None:
        outcome = Outcome.failure(path, _message(raw, error), transient=is_transient(error))
        self._results[path] = FileResult(outcome, raw, error)


def _message(raw: RawFile | None, error: Exception) -> str:
    if isinstance(error, HeaderError | ConflictError):
        # Ours: written for operators, names escaped.
        return str(error)
    if isinstance(error, ConflictingDefinitionError) and raw is not None:
        exposure = raw.refs[0].dataId["exposure"]
        return (
            f"conflict: the repository has other metadata for {raw.instrument.getName()} exposure "
            f"{exposure} than the file's header ({describe(error)})"
        )
    return describe(error)


def _without_rivals(raws: Sequence[RawFile]) -> tuple[list[RawFile], list[RawFile]]:
    """Part the files into the first of each data ID and the rest."""
    taken: set[DatasetRef] = set()
    first: list[RawFile] = []
    rest: list[RawFile] = []
    for raw in raws:
        if taken.isdisjoint(raw.refs):
            first.append(raw)
        else:
            rest.append(raw)
        # Also those of the rest, or a third file could overtake the second.
        taken.update(raw.refs)
    return first, rest


def _by_exposure(pending: Iterable[_Pending]) -> list[list[_Pending]]:
    """Group by exposure record: files that disagree on theirs are told apart by the registry."""
    groups: dict[object, list[_Pending]] = {}
    for item in pending:
        groups.setdefault(item.raw.exposure, []).append(item)
    return list(groups.values())
