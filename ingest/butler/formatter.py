"""Pixels of a raw file for ``butler.get``, read by astropy."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from astropy.io import fits
from lsst.daf.butler import FormatterV2

__all__ = ["DecamRawFormatter", "HscRawFormatter", "RawArrayFormatter"]


class RawArrayFormatter(FormatterV2):  # type: ignore[misc]
    """Read one detector's pixels from a raw FITS file as a `numpy.ndarray`.

    Notes
    -----
    Repositories record this class by name: whoever reads from one needs this package on the
    Python path.  It can only read; raws are never written through the Butler.
    """

    can_read_from_local_file: ClassVar[bool] = True
    supported_extensions: ClassVar[frozenset[str]] = frozenset(
        {".fits", ".fits.gz", ".fits.fz", ".fit", ".fz"}
    )

    detector_key: ClassVar[str | None] = None
    """Header key that holds the detector number, where a file can have several."""

    def read_from_local_file(
        self, path: str, component: str | None = None, expected_size: int = -1
    ) -> Any:
        """Return the pixels of the data ID's detector.

        Parameters
        ----------
        path : `str`
            The local file.
        component : `str` or `None`
            Arrays have no components; ignored.
        expected_size : `int`
            Size recorded at ingestion, in bytes; ignored, the Butler has compared it.

        Returns
        -------
        pixels : `numpy.ndarray`
            Two-dimensional, in the type that FITS stored, BZERO and BSCALE applied.

        Raises
        ------
        ValueError
            No image in the file belongs to the detector.
        """
        detector = self.data_id["detector"]
        with open(path, "rb") as stream, fits.open(stream, memmap=False) as hdus:
            for hdu in hdus:
                if not hdu.is_image or hdu.header.get("NAXIS", 0) < 2:
                    continue
                if self.detector_key and hdu.header.get(self.detector_key) != detector:
                    continue
                return np.array(hdu.data)
        raise ValueError(f"{path} has no image of detector {detector}")


class HscRawFormatter(RawArrayFormatter):
    """Hyper Suprime-Cam: one detector per file."""


class DecamRawFormatter(RawArrayFormatter):
    """DECam: one extension per detector."""

    detector_key: ClassVar[str | None] = "CCDNUM"
