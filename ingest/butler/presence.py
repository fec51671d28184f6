"""Is a raw in the repository already, and if so, from which file?

The Butler's own answer to a second ingestion is the same error whether the file is the one it has
or another one with the same data ID.  The first is a success, the second is a conflict that
somebody must look into; only the recorded URI tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lsst.daf.butler import Butler, DatasetRef, MissingCollectionError
from lsst.resources import ResourcePath

from buffer.names import escape

from .rawfile import RawFile
from .uris import same_bytes, same_file


@dataclass(frozen=True)
class Presence:
    """How much of one file the repository has.

    Parameters
    ----------
    absent : `tuple` of `lsst.daf.butler.DatasetRef`
        Datasets that are still to be ingested.
    rival : `lsst.resources.ResourcePath` or `None`
        Another file that the repository has for one of the data IDs.
    """

    absent: tuple[DatasetRef, ...]
    rival: ResourcePath | None

    @property
    def complete(self) -> bool:
        """Whether all of it is there, from this very file."""
        return not self.absent and self.rival is None


def look_up(
    butler: Butler, raws: Iterable[RawFile], transfer: str | None
) -> dict[RawFile, Presence]:
    """Find out which raws the repository has.

    Parameters
    ----------
    butler : `lsst.daf.butler.Butler`
        The repository.
    raws : iterable of `.rawfile.RawFile`
        The files in question.
    transfer : `str` or `None`
        How files get into the repository, see `.uris.same_file`.

    Returns
    -------
    presence : `dict` of `.rawfile.RawFile` to `Presence`
        One for each.
    """
    raws = list(raws)
    stored = butler.stored_many([ref for raw in raws for ref in raw.refs])
    return {raw: _presence(butler, raw, stored, transfer) for raw in raws}


def locate(butler: Butler, ref: DatasetRef) -> ResourcePath | None:
    """Return the URI that the repository has recorded for a data ID, `None` if it has none.

    Slower than `look_up`, and thorough: it also finds a dataset whose file is gone, and one that
    was given a random id when it was ingested.
    """
    try:
        found = butler.find_dataset(ref.datasetType, ref.dataId, collections=ref.run)
        return None if found is None else butler.getURI(found)
    except (MissingCollectionError, FileNotFoundError):
        return None


def conflict_message(raw: RawFile, rival: ResourcePath) -> str:
    """Say that the repository has the file's data ID from elsewhere, and how they compare."""
    where = escape(rival.ospath) if rival.isLocal else str(rival)
    if not rival.exists():
        how = "which is not there any more"
    elif rival.isLocal and same_bytes(rival, raw.uri):
        how = "with the same content: a duplicate under another name"
    else:
        how = "with other content"
    return (
        f"conflict: the repository already has {raw.label} from {where}, {how}; the repository "
        "keeps that one"
    )


def _presence(
    butler: Butler, raw: RawFile, stored: dict[DatasetRef, bool], transfer: str | None
) -> Presence:
    absent = tuple(ref for ref in raw.refs if not stored[ref])
    for ref in raw.refs:
        if stored[ref]:
            uri = butler.getURI(ref)
            if not same_file(uri, raw.uri, transfer):
                return Presence(absent, uri)
    return Presence(absent, None)
