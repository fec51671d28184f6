"""FITS headers to observation metadata, by astro-metadata-translator."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

import astropy.utils.data
import astropy.utils.iers
from astro_metadata_translator import MetadataTranslator, ObservationInfo
from astro_metadata_translator.indexing import process_sidecar_data
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from buffer.names import escape

from .faults import describe, is_transient
from .uris import why_no_file

if TYPE_CHECKING:
    from lsst.resources import ResourcePath

__all__ = ["HeaderError", "forbid_downloads", "read_observations"]

_REQUIRED: Final = frozenset(
    {
        "datetime_begin",
        "datetime_end",
        "detector_num",
        "exposure_group",
        "exposure_id",
        "exposure_time",
        "instrument",
        "observation_id",
        "observation_type",
        "observing_day",
        "physical_filter",
    }
)

_WANTED: Final = _REQUIRED | {
    "altaz_begin",
    "boresight_rotation_angle",
    "boresight_rotation_coord",
    "can_see_sky",
    "dark_time",
    "group_counter_end",
    "group_counter_start",
    "has_simulated_content",
    "object",
    "observation_counter",
    "observation_reason",
    "observing_day_offset",
    "science_program",
    "tracking_radec",
}

_BAD_PROPERTY = re.compile(
    r"(?:Error calculating property|Value calculated for property|"
    r"Calculation of required property) '?(?P<name>\w+)"
)


class HeaderError(ValueError):
    """The file, or its header, is not one that can be ingested; trying again will not help."""


def forbid_downloads() -> None:
    """Keep astropy from the network.

    Without this a header that lacks the site's coordinates, or a date after the last prediction
    of the Earth's rotation, makes it download tables: a minute's wait at a summit without
    internet, for values that raw ingestion does not need.
    """
    astropy.utils.data.conf.allow_internet = False
    astropy.utils.iers.conf.auto_download = False


def read_observations(uri: ResourcePath) -> list[ObservationInfo]:
    """Read what a raw file's headers say.

    Parameters
    ----------
    uri : `lsst.resources.ResourcePath`
        The local FITS file.  If a file of the same name but for the extension ``.json`` is beside
        it (a sidecar, as ``astrometadata write-sidecar`` makes it), that is read instead.

    Returns
    -------
    observations : `list` of `astro_metadata_translator.ObservationInfo`
        One per detector in the file, all of the same exposure.

    Raises
    ------
    HeaderError
        It is no FITS file, is cut short, or has a header that cannot be translated.
    OSError
        The file could not be read just now.
    """
    _require_regular_file(uri)
    content = _read_sidecar(uri)
    headers = [content] if content is not None else _read_fits(uri)
    observations = [_translate(header, uri) for header in headers]
    exposures = {(info.instrument, info.exposure_id) for info in observations}
    if len(exposures) > 1:
        raise HeaderError(f"the file holds more than one exposure: {sorted(map(str, exposures))}")
    return observations


def _require_regular_file(uri: ResourcePath) -> None:
    problem = why_no_file(uri.ospath)
    if problem is None and os.stat(uri.ospath).st_size == 0:
        problem = "the file is empty"
    if problem is not None:
        raise HeaderError(problem)


def _read_sidecar(uri: ResourcePath) -> ObservationInfo | MutableMapping[str, Any] | None:
    sidecar = uri.updatedExtension(".json")
    try:
        with open(sidecar.ospath, "rb") as stream:
            content = json.load(stream)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise HeaderError(
            f"the sidecar {escape(sidecar.ospath)} is not valid JSON ({describe(error)}); "
            "mend or remove it"
        ) from error
    if not isinstance(content, dict):
        raise HeaderError(f"the sidecar {escape(sidecar.ospath)} does not hold one header")
    try:
        return process_sidecar_data(content)
    except Exception as error:
        raise HeaderError(
            f"the sidecar {escape(sidecar.ospath)} cannot be used: {describe(error)}"
        ) from error


def _read_fits(uri: ResourcePath) -> list[MutableMapping[str, Any]]:
    try:
        with warnings.catch_warnings():
            # What astropy warns of is either harmless or refused below.
            warnings.simplefilter("ignore", AstropyWarning)
            # memmap off: a file that shrinks while it is mapped kills the process (SIGBUS).
            with open(uri.ospath, "rb") as stream, fits.open(stream, memmap=False) as hdus:
                primary = hdus[0].header.copy()
                translator = _translator_for(primary, uri)
                _require_complete(hdus, os.fstat(stream.fileno()).st_size)
            headers = list(translator.determine_translatable_headers(uri, primary=primary))
    except HeaderError:
        raise
    except Exception as error:
        if is_transient(error) or isinstance(error, PermissionError):
            raise
        raise HeaderError(f"not a readable FITS file ({_first_sentence(error)})") from error
    if not headers:
        raise HeaderError(
            f"no header that {translator.name} can translate: none of the file's extensions "
            "describes a detector"
        )
    return headers


def _first_sentence(error: Exception) -> str:
    # astropy goes on with advice to programmers.
    return describe(error).split(". ")[0]


def _translator_for(header: Mapping[str, Any], uri: ResourcePath) -> type[MetadataTranslator]:
    try:
        found: type[MetadataTranslator] = MetadataTranslator.determine_translator(
            header, filename=str(uri)
        )
        return found
    except ValueError as error:
        seen = ", ".join(
            f"{key}={header[key]!r}" for key in ("INSTRUME", "TELESCOP", "CAMERA") if key in header
        )
        known = ", ".join(sorted(MetadataTranslator.translators))
        raise HeaderError(
            f"no metadata translator understands the file's header ({escape(seen) or 'no INSTRUME'}"
            f"); known here: {known}. If the camera is another, install the package that has its "
            "translator (obs_lsst of the LSST stack for Rubin's cameras)"
        ) from error


def _require_complete(hdus: fits.HDUList, size: int) -> None:
    # Ingestion reads no pixels, so a file cut short after its headers would pass unnoticed.
    # Positions within a compressed stream say nothing about the compressed file's size.
    if getattr(hdus, "_file", None) is None or hdus._file.compression:
        return
    for number, hdu in enumerate(hdus):
        place = hdu.fileinfo()
        end = place["datLoc"] + hdu.size
        if end > size:
            raise HeaderError(
                f"the file is cut short: {size} bytes, but its HDU {number} ends at byte {end}"
            )


def _translate(
    header: ObservationInfo | MutableMapping[str, Any], uri: ResourcePath
) -> ObservationInfo:
    if isinstance(header, ObservationInfo):
        absent = sorted(name for name in _REQUIRED if getattr(header, name) is None)
        if absent:
            raise HeaderError(f"the sidecar lacks {', '.join(absent)}")
        return header
    translator = _translator_for(header, uri)
    try:
        return ObservationInfo(
            header,
            filename=uri,
            translator_class=translator,
            pedantic=False,
            required=set(_REQUIRED),
            subset=set(_WANTED),
            quiet=True,
        )
    except Exception as error:
        if is_transient(error):
            raise
        match = _BAD_PROPERTY.match(str(error.args[0]) if error.args else "")
        what = f"no usable {match['name']}" if match else "it cannot be translated"
        cause = error.__cause__ if match and error.__cause__ else error
        raise HeaderError(f"{translator.name} header: {what} ({describe(cause)})") from error
