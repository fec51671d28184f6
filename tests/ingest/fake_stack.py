"""Tasks with the interface, and the traps, of the LSST stack's.

`RawIngestTask` ingests for real, and behaves as measured of the original: an unknown filter or a
file without a translatable header ends the batch without a callback, one duplicate takes its
sibling detectors down, a callback that raises ends the batch, instruments are kept as they were
when the task was made, and a batch with failures ends in a RuntimeError without detail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from lsst.daf.butler import Butler, DatasetIdGenEnum, DatasetRef, DatasetType, FileDataset
from lsst.pex.config import Config, Field
from lsst.pipe.base import Instrument
from lsst.resources import ResourcePath

from ingest.butler.headers import HeaderError, read_observations
from ingest.butler.records import ELEMENTS, make_records

Callback = Callable[..., Any]


@dataclass
class RawFileData:
    datasets: list[Any]
    filename: ResourcePath
    FormatterClass: Any
    instrument: Any


@dataclass
class RawExposureData:
    dataId: Any
    files: list[RawFileData]
    record: Any


class RawIngestConfig(Config):
    transfer = Field(doc="How files get in.", dtype=str, default="auto")
    failFast = Field(doc="Stop early.", dtype=bool, default=False)


class RawIngestTask:
    ConfigClass = RawIngestConfig
    _DefaultName = "ingest"

    made: ClassVar[list[RawIngestTask]] = []
    calls: ClassVar[list[dict[str, Any]]] = []
    #: Raised by every call, in place of ingesting.
    broken: ClassVar[Exception | None] = None

    def __init__(
        self,
        config: RawIngestConfig | None = None,
        *,
        butler: Butler,
        on_success: Callback = lambda datasets: None,
        on_metadata_failure: Callback = lambda filename, exc: None,
        on_ingest_failure: Callback = lambda exposure, exc: None,
        on_exposure_record: Callback = lambda record: None,
        **kwargs: Any,
    ) -> None:
        assert kwargs == {}
        assert config is not None
        config.validate()
        self.config = config
        self.butler = butler
        self.on_success = on_success
        self.on_metadata_failure = on_metadata_failure
        self.on_ingest_failure = on_ingest_failure
        self.on_exposure_record = on_exposure_record
        self.instruments = Instrument.importAll(butler.registry)
        self.made.append(self)

    def run(
        self,
        files: Any,
        *,
        pool: Any = None,
        processes: int | None = None,
        run: str | None = None,
        file_filter: str = r"\.fit[s]?\b",
        group_files: bool = True,
        skip_existing_exposures: bool = False,
        update_exposure_records: bool = False,
        track_file_attrs: bool = True,
        search_indexes: bool = True,
        num_workers: int = 1,
        skip_ingest: bool = False,
    ) -> list[DatasetRef]:
        assert pool is None
        assert processes is None, "FutureWarning: processes is deprecated"
        uris = [ResourcePath(file) for file in files]
        assert all(uri.scheme == "file" for uri in uris)
        self.calls.append(
            {
                "files": [uri.ospath for uri in uris],
                "run": run,
                "file_filter": file_filter,
                "group_files": group_files,
                "skip_existing_exposures": skip_existing_exposures,
                "update_exposure_records": update_exposure_records,
                "track_file_attrs": track_file_attrs,
                "num_workers": num_workers,
                "transfer": self.config.transfer,
            }
        )
        if self.broken is not None:
            raise self.broken
        exposures, bad = self.prep(uris)
        refs: list[DatasetRef] = []
        for files_of_exposure in exposures.values():
            try:
                datasets = self.ingest_exposure(
                    files_of_exposure,
                    run,
                    skip_existing_exposures,
                    update_exposure_records,
                    track_file_attrs,
                )
            except Exception as error:
                bad += 1
                data = RawExposureData(
                    dataId={},
                    files=[RawFileData([], uri, None, None) for uri, _ in files_of_exposure],
                    record=None,
                )
                self.on_ingest_failure(data, error)
                if self.config.failFast:
                    raise
            else:
                refs += [ref for dataset in datasets for ref in dataset.refs]
                self.on_success(datasets)
        if bad:
            raise RuntimeError("Some failures encountered during ingestion")
        return refs

    def prep(self, uris: list[ResourcePath]) -> tuple[dict[Any, Any], int]:
        exposures: dict[Any, list[tuple[ResourcePath, Any]]] = {}
        bad = 0
        for uri in uris:
            try:
                observations = read_observations(uri)
            except HeaderError as error:
                if "describes a detector" in str(error):
                    raise IndexError("list index out of range") from None
                bad += 1
                self.on_metadata_failure(uri, error)
                continue
            first = observations[0]
            if first.instrument not in self.instruments:
                bad += 1
                error = LookupError(f"No registered instrument with name {first.instrument!r}.")
                self.on_metadata_failure(uri, error)
                continue
            exposures.setdefault((first.instrument, first.exposure_id), []).append(
                (uri, observations)
            )
        for (name, exposure), files in exposures.items():
            # Unknown filters and detectors come to light here, and nothing catches that.
            for _, observations in files:
                for info in observations:
                    self.butler.registry.expandDataId(
                        instrument=name,
                        exposure=exposure,
                        detector=info.detector_num,
                        records=make_records(info, self.butler.dimensions),
                    )
        return exposures, bad

    def ingest_exposure(
        self, files: Any, run: str | None, skip: bool, update: bool, track: bool
    ) -> list[FileDataset]:
        registry = self.butler.registry
        first = files[0][1][0]
        instrument = self.instruments[first.instrument]()
        collection = run or instrument.makeDefaultRawIngestRunName()
        name, dimensions, storage_class = instrument.raw_definition
        dataset_type = DatasetType(name, dimensions, storage_class, universe=self.butler.dimensions)
        registry.registerDatasetType(dataset_type)
        self.butler.collections.register(collection)
        records = make_records(first, self.butler.dimensions)
        with self.butler.transaction():
            for element in ELEMENTS:
                registry.syncDimensionData(
                    element, records[element], update=update and element == "exposure"
                )
            datasets = [
                FileDataset(
                    uri,
                    [
                        DatasetRef(
                            dataset_type,
                            registry.expandDataId(
                                instrument=info.instrument,
                                exposure=info.exposure_id,
                                detector=info.detector_num,
                            ),
                            run=collection,
                            id_generation_mode=DatasetIdGenEnum.DATAID_TYPE_RUN,
                        )
                        for info in observations
                    ],
                    formatter=instrument.getRawFormatter({}),
                )
                for uri, observations in files
            ]
            self.butler.ingest(
                *datasets,
                transfer=self.config.transfer,
                record_validation_info=track,
                skip_existing=skip,
            )
        self.on_exposure_record(records["exposure"])
        return datasets


class OlderRawIngestTask(RawIngestTask):
    """As some years ago: fewer arguments."""

    def run(  # type: ignore[override]
        self,
        files: Any,
        *,
        pool: Any = None,
        processes: int | None = None,
        run: str | None = None,
        file_filter: str = r"\.fit[s]?\b",
        group_files: bool = True,
        skip_existing_exposures: bool = False,
        update_exposure_records: bool = False,
    ) -> list[DatasetRef]:
        return super().run(files, pool=pool, processes=processes, run=run)


class SilentTask(RawIngestTask):
    """Says nothing about anything."""

    def run(self, files: Any, **kwargs: Any) -> list[DatasetRef]:
        self.calls.append({"files": list(files), **kwargs})
        return []


class BabblingTask(RawIngestTask):
    """Reports things that make no sense, and one file."""

    def run(self, files: Any, **kwargs: Any) -> list[DatasetRef]:
        self.on_success(None)
        self.on_metadata_failure(None, None)
        self.on_metadata_failure(ResourcePath("/somewhere/else.fits"), ValueError("x"))
        self.on_ingest_failure(object(), ValueError("x"))
        return super().run(files, **kwargs)


class UnmakeableTask(RawIngestTask):
    def __init__(self, **kwargs: Any) -> None:
        raise TypeError("needs a camera")


class DefineVisitsConfig(Config):
    groupExposures = Field(doc="Kind of visits.", dtype=str, default="one-to-one-and-by-counter")


class DefineVisitsTask:
    ConfigClass = DefineVisitsConfig
    _DefaultName = "defineVisits"

    made: ClassVar[list[DefineVisitsTask]] = []
    calls: ClassVar[list[dict[str, Any]]] = []
    #: Exposures for which no visit can be defined, and why.
    bad: ClassVar[dict[int, Exception]] = {}

    def __init__(
        self, config: DefineVisitsConfig | None = None, *, butler: Butler, **kwargs: Any
    ) -> None:
        assert kwargs == {}
        self.config = config
        self.butler = butler
        self.made.append(self)

    def run(
        self,
        ids_or_records: Any,
        *,
        collections: Any = None,
        update_records: bool = False,
        incremental: bool = False,
        skip_conflicting: bool = False,
    ) -> None:
        exposures = [each["exposure"] for each in ids_or_records]
        self.calls.append(
            {
                "exposures": sorted(exposures),
                "collections": collections,
                "update_records": update_records,
                "incremental": incremental,
            }
        )
        for exposure in exposures:
            if exposure in self.bad:
                raise self.bad[exposure]
        for each in ids_or_records:
            self.define(each)

    def define(self, data_id: Any) -> None:
        registry = self.butler.registry
        (exposure,) = self.butler.query_dimension_records(
            "exposure", instrument=data_id["instrument"], exposure=data_id["exposure"]
        )
        name = data_id["instrument"]
        registry.syncDimensionData(
            "visit_system", {"instrument": name, "id": 0, "name": "one-to-one"}
        )
        registry.syncDimensionData(
            "visit",
            {
                "instrument": name,
                "id": exposure.id,
                "name": exposure.obs_id,
                "physical_filter": exposure.physical_filter,
                "day_obs": exposure.day_obs,
                "exposure_time": exposure.exposure_time,
                "timespan": exposure.timespan,
            },
        )
        registry.syncDimensionData(
            "visit_definition",
            {"instrument": name, "exposure": exposure.id, "visit": exposure.id},
        )
