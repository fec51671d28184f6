"""Two cameras whose raws packages from PyPI can translate.

They stand in for the classes of obs_subaru and obs_decam, with the same names, detector numbers
and filters, so that data IDs mean the same with and without the LSST stack.  A repository made by
the stack names the stack's classes instead, and these are not used.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from astro_metadata_translator.translators import DecamTranslator, HscTranslator
from lsst.pipe.base import Instrument

from .formatter import DecamRawFormatter, HscRawFormatter, RawArrayFormatter

if TYPE_CHECKING:
    from lsst.daf.butler import DataId, Registry

__all__ = ["BUILTIN", "DarkEnergyCamera", "HyperSuprimeCam"]


class _Camera(Instrument):  # type: ignore[misc]
    """An instrument given by tables of its detectors and filters."""

    raw_definition = ("raw", ("instrument", "detector", "exposure"), "NumpyArray")

    name: ClassVar[str]
    exposure_max: ClassVar[int]
    detector_max: ClassVar[int]
    filters: ClassVar[dict[str, str | None]]
    """Physical filter as the translator names it, to band."""
    raw_formatter: ClassVar[type[RawArrayFormatter]]

    @classmethod
    def getName(cls) -> str:
        return cls.name

    def getRawFormatter(self, dataId: DataId) -> type[RawArrayFormatter]:
        return self.raw_formatter

    @classmethod
    @abstractmethod
    def detectors(cls) -> list[dict[str, Any]]:
        """Return the values of the detector records, without the instrument's name."""

    def register(self, registry: Registry, *, update: bool = False) -> None:
        with registry.transaction():
            registry.syncDimensionData(
                "instrument",
                {
                    "name": self.name,
                    "class_name": f"{type(self).__module__}.{type(self).__qualname__}",
                    "detector_max": self.detector_max,
                    "exposure_max": self.exposure_max,
                    "visit_max": self.exposure_max,
                    "visit_system": 0,
                },
                update=update,
            )
            for detector in self.detectors():
                registry.syncDimensionData(
                    "detector", {"instrument": self.name, **detector}, update=update
                )
            for name, band in self.filters.items():
                registry.syncDimensionData(
                    "physical_filter",
                    {"instrument": self.name, "name": name, "band": band},
                    update=update,
                )


class HyperSuprimeCam(_Camera):
    """Hyper Suprime-Cam on the Subaru telescope."""

    name = "HSC"
    exposure_max = 21474800
    detector_max = 112
    raw_formatter = HscRawFormatter
    filters: ClassVar[dict[str, str | None]] = {
        "HSC-G": "g",
        "HSC-R": "r",
        "HSC-R2": "r",
        "HSC-I": "i",
        "HSC-I2": "i",
        "HSC-Z": "z",
        "HSC-Y": "y",
        "NB0387": "N387",
        "NB0468": "N468",
        "NB0515": "N515",
        "NB0527": "N527",
        "NB0656": "N656",
        "NB0718": "N718",
        "NB0816": "N816",
        "NB0921": "N921",
        "NB0926": "N926",
        "NB0973": "N973",
        "NB01010": "N1010",
        "IB0945": "I945",
        "ENG-R1": "r",
        "PH": "PH",
        "SH": "SH",
        "empty": "empty",
        "unknown": "unknown",
    }

    @classmethod
    def detectors(cls) -> list[dict[str, Any]]:
        return [
            {
                "id": number,
                "full_name": name,
                "raft": name.split("_")[0],
                "name_in_raft": name.split("_")[1],
                # The last eight CCDs of the focal plane are for focusing.
                "purpose": "SCIENCE" if number < 104 else "FOCUS",
            }
            for number, name in enumerate(HscTranslator._DETECTOR_NUM_TO_UNIQUE_NAME)
        ]


class DarkEnergyCamera(_Camera):
    """DECam on the Blanco telescope."""

    name = "DECam"
    exposure_max = 2**31
    detector_max = 64
    raw_formatter = DecamRawFormatter
    filters: ClassVar[dict[str, str | None]] = {
        "u DECam c0006 3500.0 1000.0": "u",
        "g DECam SDSS c0001 4720.0 1520.0": "g",
        "r DECam SDSS c0002 6415.0 1480.0": "r",
        "i DECam SDSS c0003 7835.0 1470.0": "i",
        "z DECam SDSS c0004 9260.0 1520.0": "z",
        "Y DECam c0005 10095.0 1130.0": "y",
        "VR DECam c0007 6300.0 2600.0": "VR",
        "N964 DECam c0008 9645.0 94.0": "N964",
        "solid plate 0.0 0.0": "opaque",
    }

    @classmethod
    def detectors(cls) -> list[dict[str, Any]]:
        # The translator's table leaves out CCD 61, which died in 2012.
        names = {**DecamTranslator.detector_names, 61: "N30"}
        return [
            {
                "id": number,
                "full_name": name,
                "raft": name[0],
                "name_in_raft": name[1:],
                "purpose": "SCIENCE",
            }
            for number, name in sorted(names.items())
        ]


BUILTIN: dict[str, type[Instrument]] = {
    camera.getName(): camera for camera in (HyperSuprimeCam, DarkEnergyCamera)
}
"""The cameras of this module by the name that headers and data IDs use."""
