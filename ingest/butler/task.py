"""Ingest raw files with `lsst.daf.butler` alone, in batches.

`ButlerIngestTask` takes the arguments of ``lsst.obs.base.RawIngestTask`` and calls the same
callbacks, so that either will serve as ``ingest.task``.  It differs where that task's ways cost
files: nothing in a batch aborts the others, a file that is there already is told from a conflict,
and what became of each file is returned (`~ButlerIngestTask.run_batch`) and not only reported.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lsst.daf.butler import Butler, DataCoordinate, DatasetRef, DimensionRecord, FileDataset
from lsst.pex.config import ChoiceField, Config, Field
from lsst.pipe.base import Instrument
from lsst.resources import ResourcePath, ResourcePathExpression

from ingest.plugins.base import Outcome

from .batch import Batch
from .headers import forbid_downloads
from .rawfile import RawFile
from .registered import Registered
from .results import FileResult, Options
from .uris import to_uri

__all__ = ["ButlerIngestConfig", "ButlerIngestTask", "RawExposureData", "RawFileData"]

logger = logging.getLogger(__name__)

FITS_NAMES = r"\.fit[s]?\b"
"""Files that count when a directory is given."""


def _ignore(*_: Any) -> None:
    """Be called back, and do nothing."""


class ButlerIngestConfig(Config):  # type: ignore[misc]
    """Settings of `ButlerIngestTask`: those of RawIngestTask that apply."""

    transfer: ClassVar[Any] = ChoiceField(
        doc="How files get into the repository.",
        dtype=str,
        allowed={
            "direct": "Leave the file where it is and record its absolute URI.",
            "copy": "Copy the file into the repository.",
            "link": "Make a hard link, or a symbolic one where that is not possible.",
            "hardlink": "Make a hard link.",
            "symlink": "Make a symbolic link.",
            "relsymlink": "Make a relative symbolic link.",
            "auto": "Let the repository choose.",
        },
        default="direct",
    )
    failFast: ClassVar[Any] = Field(
        doc="Raise the first failure of a batch once the batch is done.",
        dtype=bool,
        default=False,
    )


@dataclass
class RawFileData:
    """One file of a failed exposure, as RawIngestTask's callbacks describe it."""

    filename: ResourcePath
    datasets: list[DatasetRef] = field(default_factory=list)
    FormatterClass: Any = None
    instrument: Any = None


@dataclass
class RawExposureData:
    """A failed exposure, as RawIngestTask's callbacks describe it."""

    dataId: DataCoordinate
    files: list[RawFileData]
    record: DimensionRecord | None = None


class ButlerIngestTask:
    """Ingest raw files into a Butler repository without the LSST stack.

    Parameters
    ----------
    config : `ButlerIngestConfig`, optional
        Settings.
    butler : `lsst.daf.butler.Butler`
        The repository, open for writing.  It must be used by this process and thread only:
        Butlers shared between threads hang, and lose files that they reported as ingested.
    on_success : callable, optional
        Called with a `list` of `lsst.daf.butler.FileDataset` for each exposure, those included
        that were in the repository already.
    on_metadata_failure : callable, optional
        Called with the file's `lsst.resources.ResourcePath` and the exception.
    on_ingest_failure : callable, optional
        Called with a `RawExposureData` and the exception.
    on_exposure_record : callable, optional
        Called with each exposure's `lsst.daf.butler.DimensionRecord` that was added or changed.
    name, parentTask, log
        Accepted, as every task of the stack does, and ignored.

    Raises
    ------
    ValueError
        The configuration does not suit the repository.

    Notes
    -----
    A callback that raises is logged; it changes nothing.
    """

    ConfigClass = ButlerIngestConfig
    _DefaultName = "ingest"

    def __init__(
        self,
        config: ButlerIngestConfig | None = None,
        *,
        butler: Butler,
        on_success: Callable[[list[FileDataset]], Any] = _ignore,
        on_metadata_failure: Callable[[ResourcePath, Exception], Any] = _ignore,
        on_ingest_failure: Callable[[RawExposureData, Exception], Any] = _ignore,
        on_exposure_record: Callable[[DimensionRecord], Any] = _ignore,
        name: str | None = None,
        parentTask: Any = None,
        log: Any = None,
    ) -> None:
        self.config = config or ButlerIngestConfig()
        self.config.validate()
        self.butler = butler
        if "group" not in butler.dimensions or "day_obs" not in butler.dimensions:
            raise ValueError(
                "the repository was made with dimensions older than version 6; "
                "migrate it, or use lsst.obs.base.RawIngestTask"
            )
        forbid_downloads()
        # Registers the metadata translators that the instruments' packages bring along.
        Instrument.importAll(butler.registry)
        self._registered = Registered(butler)
        self._on_success = on_success
        self._on_metadata_failure = on_metadata_failure
        self._on_ingest_failure = on_ingest_failure
        self._on_exposure_record = on_exposure_record

    def run(
        self,
        files: Iterable[ResourcePathExpression],
        *,
        pool: Any = None,
        processes: int = 1,
        run: str | None = None,
        file_filter: str | re.Pattern[str] = FITS_NAMES,
        group_files: bool = True,
        skip_existing_exposures: bool = False,
        update_exposure_records: bool = False,
        track_file_attrs: bool = True,
        search_indexes: bool = True,
        num_workers: int = 1,
        skip_ingest: bool = False,
    ) -> list[DatasetRef]:
        """Ingest files and report by callbacks, as RawIngestTask does.

        Parameters
        ----------
        files : iterable
            Files, and directories that are searched for files.
        pool, processes, num_workers
            Accepted; one process does the work.
        run : `str`, optional
            RUN collection; the default is the instrument's ``<instrument>/raw/all``.
        file_filter : `str` or `re.Pattern`
            Names that count in directories.
        group_files, search_indexes : `bool`
            Accepted: files are grouped by exposure anyway, and index files are not read.
        skip_existing_exposures, update_exposure_records, track_file_attrs, skip_ingest : `bool`
            See `.results.Options`.

        Returns
        -------
        refs : `list` of `lsst.daf.butler.DatasetRef`
            Datasets that the repository has now.

        Raises
        ------
        RuntimeError
            Some files failed; all others are ingested, and every callback was called.
        """
        uris = ResourcePath.findFileResources(
            [_candidate(file) for file in files], file_filter, grouped=False
        )
        results = self._ingest(
            [uri.ospath for uri in uris],
            Options(
                run=run,
                transfer=self.config.transfer,
                skip_existing_exposures=skip_existing_exposures,
                update_exposure_records=update_exposure_records,
                track_file_attrs=track_file_attrs,
                skip_ingest=skip_ingest,
            ),
        )
        failures = [result.error for result in results.values() if result.error is not None]
        if failures and self.config.failFast:
            raise failures[0]
        if failures:
            raise RuntimeError(f"{len(failures)} of {len(results)} files were not ingested")
        return [ref for result in results.values() if result.raw for ref in result.raw.refs]

    def run_batch(
        self,
        files: Sequence[str],
        *,
        run: str | None = None,
        skip_existing_exposures: bool = False,
        update_exposure_records: bool = False,
        track_file_attrs: bool = True,
    ) -> dict[str, Outcome]:
        """Ingest files and return what became of each.

        Parameters
        ----------
        files : sequence of `str`
            Absolute paths of files.  A path that is given twice counts once.
        run : `str`, optional
            As for `run`.
        skip_existing_exposures, update_exposure_records, track_file_attrs : `bool`
            As for `run`.

        Returns
        -------
        outcomes : `dict` of `str` to `ingest.plugins.base.Outcome`
            One for each path.  Callbacks are called as well.
        """
        results = self._ingest(
            files,
            Options(
                run=run,
                transfer=self.config.transfer,
                skip_existing_exposures=skip_existing_exposures,
                update_exposure_records=update_exposure_records,
                track_file_attrs=track_file_attrs,
            ),
        )
        return {path: result.outcome for path, result in results.items()}

    def _ingest(self, paths: Sequence[str], options: Options) -> dict[str, FileResult]:
        changed: list[DimensionRecord] = []
        batch = Batch(self.butler, self._registered, options, changed.append)
        results = batch.run(paths)
        for record in changed:
            self._call(self._on_exposure_record, record)
        self._report(results)
        return results

    def _report(self, results: dict[str, FileResult]) -> None:
        successes: dict[Any, list[RawFile]] = {}
        for path, result in results.items():
            if result.raw is None:
                self._call(self._on_metadata_failure, to_uri(path), result.error)
            elif result.error is None:
                successes.setdefault(result.raw.exposure, []).append(result.raw)
            else:
                self._call(self._on_ingest_failure, _exposure_of(result.raw), result.error)
        for raws in successes.values():
            self._call(self._on_success, [raw.dataset() for raw in raws])

    def _call(self, callback: Callable[..., Any], *args: Any) -> None:
        try:
            callback(*args)
        except Exception:
            logger.exception("a callback of the ingest task failed; what it was told stands")


def _candidate(file: ResourcePathExpression) -> ResourcePath:
    uri = to_uri(file)
    if uri.isLocal and os.path.isdir(uri.ospath):
        return ResourcePath(uri.geturl() + "/", forceDirectory=True)
    return uri


def _exposure_of(raw: RawFile) -> RawExposureData:
    file = RawFileData(
        filename=raw.uri,
        datasets=list(raw.refs),
        FormatterClass=raw.formatter,
        instrument=raw.instrument,
    )
    data_id = raw.refs[0].dataId.subset(["exposure"])
    return RawExposureData(dataId=data_id, files=[file], record=raw.records["exposure"])
