"""A raw file as the Butler will see it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsst.daf.butler import (
    Butler,
    DataCoordinate,
    DatasetIdGenEnum,
    DatasetRef,
    DimensionRecord,
    FileDataset,
)

from .headers import HeaderError, read_observations
from .records import make_records
from .registered import Registered
from .uris import to_uri, why_no_file

if TYPE_CHECKING:
    from astro_metadata_translator import ObservationInfo
    from lsst.daf.butler import Formatter, FormatterV2
    from lsst.pipe.base import Instrument
    from lsst.resources import ResourcePath


@dataclass(frozen=True, eq=False)
class RawFile:
    """What a file's headers and the repository together say of it.

    Parameters
    ----------
    path : `str`
        The path as it was given.
    uri : `lsst.resources.ResourcePath`
        The same as the repository would record it.
    instrument : `lsst.pipe.base.Instrument`
        The instrument.
    observations : `tuple` of `astro_metadata_translator.ObservationInfo`
        One per detector.
    records : `dict` of `str` to `lsst.daf.butler.DimensionRecord`
        The exposure's records, see `.records.make_records`.
    refs : `tuple` of `lsst.daf.butler.DatasetRef`
        One per detector.  Their ids follow from data ID and collection, so that the same file
        always gets the same.
    formatter : `type`
        What reads the pixels.
    """

    path: str
    uri: ResourcePath
    instrument: Instrument
    observations: tuple[ObservationInfo, ...]
    records: dict[str, DimensionRecord]
    refs: tuple[DatasetRef, ...]
    formatter: type[Formatter | FormatterV2]

    @property
    def exposure(self) -> Hashable:
        """What is equal for files that agree on their exposure in every detail."""
        record = self.records["exposure"]
        return tuple(record.toDict().items())

    @property
    def label(self) -> str:
        """The data ID for messages."""
        ref = self.refs[0]
        detectors = ", ".join(str(each.dataId["detector"]) for each in self.refs)
        return f"{ref.dataId['instrument']} exposure {ref.dataId['exposure']} detector {detectors}"

    def dataset(self, refs: tuple[DatasetRef, ...] | None = None) -> FileDataset:
        """Return what `lsst.daf.butler.Butler.ingest` wants to have."""
        return FileDataset(
            path=self.uri, refs=list(self.refs if refs is None else refs), formatter=self.formatter
        )


def read_raw_file(
    path: str, butler: Butler, registered: Registered, run: str | None = None
) -> RawFile:
    """Read a file's headers and work out its data IDs.

    Parameters
    ----------
    path : `str`
        Absolute path of the file.
    butler : `lsst.daf.butler.Butler`
        The repository.
    registered : `.registered.Registered`
        What that repository knows.
    run : `str`, optional
        RUN collection of the datasets; `None` means the instrument's ``<instrument>/raw/all``.

    Returns
    -------
    raw : `RawFile`
        Nothing has been written.

    Raises
    ------
    HeaderError
        The file cannot be ingested, and will not be later either.
    Exception
        Anything else: trouble with the file system or the repository.
    """
    problem = why_no_file(path)
    if problem is not None:
        raise HeaderError(problem)
    uri = to_uri(path)
    observations = tuple(read_observations(uri))
    first = observations[0]
    instrument = registered.instrument(first)
    for info in observations:
        registered.require(info)
    records = make_records(first, butler.dimensions)
    dataset_type = registered.dataset_type(instrument)
    collection = run or instrument.makeDefaultRawIngestRunName()
    refs = tuple(
        DatasetRef(
            dataset_type,
            _expand(butler, info, records),
            run=collection,
            id_generation_mode=DatasetIdGenEnum.DATAID_TYPE_RUN,
        )
        for info in observations
    )
    if len(set(refs)) < len(refs):
        raise HeaderError("the file describes the same detector twice")
    return RawFile(
        path=path,
        uri=uri,
        instrument=instrument,
        observations=observations,
        records=records,
        refs=refs,
        formatter=instrument.getRawFormatter(refs[0].dataId),
    )


def _expand(
    butler: Butler, info: ObservationInfo, records: dict[str, DimensionRecord]
) -> DataCoordinate:
    # Looks up instrument, detector, filter and band; the exposure's own records are not in the
    # repository yet, so they are handed over.
    return butler.registry.expandDataId(
        instrument=info.instrument,
        detector=info.detector_num,
        exposure=info.exposure_id,
        records=records,
    )
