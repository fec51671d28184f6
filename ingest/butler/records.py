"""Observation metadata to the Butler's dimension records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lsst.daf.butler import DimensionRecord, DimensionUniverse, Timespan

from .headers import HeaderError

if TYPE_CHECKING:
    from astro_metadata_translator import ObservationInfo

ELEMENTS = ("group", "day_obs", "exposure")
"""Elements that a raw file brings along, in the order in which they depend on one another."""


def make_records(info: ObservationInfo, universe: DimensionUniverse) -> dict[str, DimensionRecord]:
    """Make the records that an exposure adds to a repository.

    Parameters
    ----------
    info : `astro_metadata_translator.ObservationInfo`
        Metadata of one of the exposure's detectors.
    universe : `lsst.daf.butler.DimensionUniverse`
        The repository's dimensions.

    Returns
    -------
    records : `dict` of `str` to `lsst.daf.butler.DimensionRecord`
        Keyed by element name, one for each of `ELEMENTS`.

    Raises
    ------
    HeaderError
        The metadata contradict themselves.

    Notes
    -----
    Values and units are those that ``lsst.obs.base`` gives an exposure, so that a file ingested
    by either of the two agrees with its siblings ingested by the other.
    """
    instrument = info.instrument
    exposure = _exposure_values(info)
    offset = info.observing_day_offset
    day = {
        "instrument": instrument,
        "id": info.observing_day,
        "timespan": Timespan.from_day_obs(
            info.observing_day, offset=0 if offset is None else round(offset.to_value("s"))
        ),
    }
    values = {
        "group": {"instrument": instrument, "name": info.exposure_group},
        "day_obs": day,
        "exposure": exposure,
    }
    return {name: _make_record(universe, name, values[name]) for name in ELEMENTS}


def _exposure_values(info: ObservationInfo) -> dict[str, Any]:
    begin, end = info.datetime_begin, info.datetime_end
    if end < begin:
        raise HeaderError(f"the exposure ends ({end.isot}) before it begins ({begin.isot})")
    return {
        "instrument": info.instrument,
        "id": info.exposure_id,
        "obs_id": info.observation_id,
        "group": info.exposure_group,
        "day_obs": info.observing_day,
        "physical_filter": info.physical_filter,
        "timespan": Timespan(begin, end),
        "exposure_time": info.exposure_time.to_value("s"),
        "dark_time": None if info.dark_time is None else info.dark_time.to_value("s"),
        "observation_type": info.observation_type,
        "observation_reason": info.observation_reason,
        "seq_num": info.observation_counter,
        "seq_start": info.group_counter_start,
        "seq_end": info.group_counter_end,
        "target_name": info.object,
        "science_program": info.science_program,
        "has_simulated": info.has_simulated_content,
        "can_see_sky": info.can_see_sky,
        **_pointing(info),
    }


def _pointing(info: ObservationInfo) -> dict[str, float | None]:
    ra = dec = sky_angle = azimuth = zenith_angle = None
    if info.tracking_radec is not None:
        icrs = info.tracking_radec.icrs
        ra, dec = float(icrs.ra.degree), float(icrs.dec.degree)
        if info.boresight_rotation_coord == "sky" and info.boresight_rotation_angle is not None:
            sky_angle = float(info.boresight_rotation_angle.degree)
    if info.altaz_begin is not None:
        zenith_angle = float(info.altaz_begin.zen.degree)
        azimuth = float(info.altaz_begin.az.degree)
    return {
        "tracking_ra": ra,
        "tracking_dec": dec,
        "sky_angle": sky_angle,
        "azimuth": azimuth,
        "zenith_angle": zenith_angle,
    }


def _make_record(
    universe: DimensionUniverse, element: str, values: dict[str, Any]
) -> DimensionRecord:
    record_class = universe[element].RecordClass
    # Repositories made with an earlier set of dimensions lack some of the columns.
    known = set(record_class.fields.names)
    return record_class(**{name: value for name, value in values.items() if name in known})
