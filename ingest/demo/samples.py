"""The demo's files: what each is, how it arrives, and what is to become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from fixtures.fits_samples import (
    HSC_EXPOSURE,
    write_broken,
    write_decam,
    write_hsc,
    write_not_fits,
)
from ingest.statuses import Status

HSC_NIGHT = "2015-10-10"
EARLIER_NIGHT = "2015-10-09"
DECAM_NIGHT = "2013-09-01"
#: Where something is sent a second time.
RESENT = "resent"

# 300 exposures at five minutes each before the first one: on the evening before.
_EARLIER_EXPOSURE = HSC_EXPOSURE - 300


class Arrival(Enum):
    """How a file comes; the value is for the table at the end."""

    BEFORE = "there before"
    LANDS = "landed"
    SLOWLY = "slowly"
    AGAIN = "second time"
    OTHER = "other content"


@dataclass(frozen=True)
class Sample:
    """One file of the demo.

    Parameters
    ----------
    path : `str`
        Below the buffer or the storage.
    write : callable
        Makes the file, at the path given to it.
    arrival : `Arrival`
        How it comes.
    outcomes : `tuple` [`ingest.statuses.Status`, ...]
        What its history at the ingester is to be, without the attempts' beginnings; empty for
        arrivals that are not taken in.
    message : `str`
        To be found in the last event's message, or in the refusal's detail.
    datasets : `int`
        How many detectors' raws the repository is to have of it.
    stored_as : `str`
        For an arrival that is not taken in: the stored file that it meets.
    """

    path: str
    write: Callable[[Path], Path]
    arrival: Arrival = Arrival.LANDS
    outcomes: tuple[Status, ...] = (Status.SUCCESS,)
    message: str = ""
    datasets: int = 1
    stored_as: str = ""

    @property
    def is_taken_in(self) -> bool:
        """Whether it is to be in storage at the end, as itself."""
        return not self.stored_as


def samples() -> list[Sample]:
    """List the demo's files."""
    earlier = [_hsc(_EARLIER_EXPOSURE, detector, arrival=Arrival.BEFORE) for detector in (40, 41)]
    good = [
        *(_hsc(HSC_EXPOSURE, detector) for detector in (36, 37, 38)),
        *(_hsc(HSC_EXPOSURE + 2, detector, "HSC-i") for detector in (36, 37, 38)),
        *(_hsc(HSC_EXPOSURE + 4, detector, "HSC-g") for detector in (50, 51)),
        _hsc(HSC_EXPOSURE + 6, 10, "HSC-z", arrival=Arrival.SLOWLY),
    ]
    other_camera = [
        *(_decam(229388, detector) for detector in (25, 26, 27)),
        *(_decam(229389, detector, "r DECam SDSS c0002 6415.0 1480.0") for detector in (1, 62)),
        _decam(229390, (28, 29)),
    ]
    original, clashing = good[0].path, good[1].path
    return [
        *earlier,
        *good,
        *other_camera,
        _fails(_hsc_path(HSC_EXPOSURE + 8, 20), write_broken, "not a readable FITS file"),
        _fails(_hsc_path(HSC_EXPOSURE + 8, 21), write_not_fits, "not a readable FITS file"),
        Sample(
            path=f"{RESENT}/{original.rpartition('/')[2]}",
            write=good[0].write,
            arrival=Arrival.AGAIN,
            outcomes=(),
            datasets=0,
            stored_as=original,
        ),
        Sample(
            path=clashing,
            write=partial(write_hsc, exposure=HSC_EXPOSURE, detector=37, seed=999),
            arrival=Arrival.OTHER,
            outcomes=(),
            datasets=0,
            stored_as=clashing,
        ),
    ]


def _hsc_path(exposure: int, detector: int, night: str = HSC_NIGHT) -> str:
    return f"{night}/HSCA{exposure:06d}{detector:02d}.fits"


def _hsc(
    exposure: int,
    detector: int,
    physical_filter: str = "HSC-r",
    arrival: Arrival = Arrival.LANDS,
) -> Sample:
    before = arrival is Arrival.BEFORE
    return Sample(
        path=_hsc_path(exposure, detector, EARLIER_NIGHT if before else HSC_NIGHT),
        write=partial(
            write_hsc,
            exposure=exposure,
            detector=detector,
            physical_filter=physical_filter,
            seed=exposure * 100 + detector,
        ),
        arrival=arrival,
        outcomes=(Status.BACKFILL,) if before else (Status.SUCCESS,),
    )


def _decam(
    exposure: int,
    detector: int | tuple[int, ...],
    physical_filter: str = "z DECam SDSS c0004 9260.0 1520.0",
) -> Sample:
    detectors = detector if isinstance(detector, tuple) else (detector,)
    suffix = "_".join(f"{number:02d}" for number in detectors)
    return Sample(
        path=f"{DECAM_NIGHT}/DECam_{exposure:08d}_{suffix}.fits",
        write=partial(
            write_decam,
            exposure=exposure,
            detector=detector,
            physical_filter=physical_filter,
            seed=exposure * 100 + detectors[0],
        ),
        # The repository is told of this camera only after its files have failed.
        outcomes=(Status.FAILURE, Status.RERUN, Status.SUCCESS),
        datasets=len(detectors),
    )


def _fails(path: str, write: Callable[[Path], Path], message: str) -> Sample:
    return Sample(path, write, outcomes=(Status.FAILURE,), message=message, datasets=0)
