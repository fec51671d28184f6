"""How a batch is ingested, and what becomes of its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.plugins.base import Outcome

    from .rawfile import RawFile

__all__ = ["ALREADY", "ConflictError", "FileResult", "Options"]

ALREADY = "already ingested"
"""Note of a success that changed nothing."""


@dataclass(frozen=True)
class Options:
    """How a batch is ingested; the names are those of RawIngestTask's arguments.

    Parameters
    ----------
    run : `str` or `None`
        RUN collection; `None` for the instrument's ``<instrument>/raw/all``.
    transfer : `str`
        How files get into the repository.
    skip_existing_exposures : `bool`
        A file whose data ID the repository has from another file is a success with a note, and
        not a conflict.
    update_exposure_records : `bool`
        Metadata that differ replace the exposure's record instead of being refused.
    track_file_attrs : `bool`
        Record the files' sizes.
    skip_ingest : `bool`
        Only write the exposures' records.
    """

    run: str | None = None
    transfer: str = "direct"
    skip_existing_exposures: bool = False
    update_exposure_records: bool = False
    track_file_attrs: bool = True
    skip_ingest: bool = False


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Parameters
    ----------
    outcome : `ingest.plugins.base.Outcome`
        The same for the ingester.
    raw : `.rawfile.RawFile` or `None`
        `None` if the headers were no good.
    error : `Exception` or `None`
        Why it failed.
    """

    outcome: Outcome
    raw: RawFile | None = None
    error: Exception | None = None


class ConflictError(RuntimeError):
    """The repository has the data ID from another file."""
