"""Visits from exposures, by the stack's DefineVisitsTask."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lsst.daf.butler import Butler, DataCoordinate, DatasetRef

from .rawtask import accepted_arguments

__all__ = ["VisitDefiner", "has_visit"]

logger = logging.getLogger(__name__)


class VisitDefiner:
    """Defines the visits of ingested exposures.

    Parameters
    ----------
    task : `object`
        Has the interface of ``lsst.obs.base.DefineVisitsTask``.
    butler : `lsst.daf.butler.Butler`
        The repository.
    collections : `str`, sequence of `str` or `None`
        Where the task looks for the camera and the raws; `None` for the raws' own collection.
    update_records : `bool`
        Replace visits that are defined differently.
    """

    def __init__(
        self,
        task: Any,
        butler: Butler,
        collections: str | Sequence[str] | None,
        update_records: bool,
    ) -> None:
        self._task = task
        self._butler = butler
        self._collections = collections
        # A visit's exposures may arrive in different batches.
        optional = accepted_arguments(task.run, {"incremental": True})
        self._arguments = {"update_records": update_records, **optional}

    def define(self, refs: Mapping[str, Sequence[DatasetRef]]) -> dict[str, Exception]:
        """Define the visits of files that are in the repository.

        Parameters
        ----------
        refs : mapping of `str` to sequence of `lsst.daf.butler.DatasetRef`
            Datasets by path.

        Returns
        -------
        errors : `dict` of `str` to `Exception`
            Paths of exposures whose visits could not be defined.
        """
        paths: dict[DataCoordinate, list[str]] = {}
        runs: set[str] = set()
        for path, datasets in refs.items():
            for ref in datasets:
                exposure = ref.dataId.subset(self._butler.dimensions.conform(["exposure"]))
                known = paths.setdefault(exposure, [])
                if path not in known:
                    known.append(path)
                runs.add(ref.run)
        if not paths:
            return {}
        error = self._run(list(paths), sorted(runs))
        if error is None:
            return {}
        if len(paths) == 1:
            return dict.fromkeys(next(iter(paths.values())), error)
        errors: dict[str, Exception] = {}
        for exposure, names in paths.items():
            error = self._run([exposure], sorted(runs))
            if error is not None:
                errors.update(dict.fromkeys(names, error))
        return errors

    def _run(self, exposures: list[DataCoordinate], runs: list[str]) -> Exception | None:
        collections = runs if self._collections is None else self._collections
        try:
            self._task.run(exposures, collections=collections, **self._arguments)
        except Exception as error:
            return error
        return None


def has_visit(butler: Butler, ref: DatasetRef) -> bool:
    """Tell whether an exposure has its visit, or needs none.

    Only exposures of the sky become visits.  One that the task's configuration leaves out counts
    as lacking its visit, which costs a second look at the file and nothing else.
    """
    records = butler.query_dimension_records(
        "exposure",
        instrument=ref.dataId["instrument"],
        exposure=ref.dataId["exposure"],
        explain=False,
    )
    if any(record.observation_type != "science" for record in records):
        return True
    return bool(
        butler.query_dimension_records(
            "visit_definition",
            instrument=ref.dataId["instrument"],
            exposure=ref.dataId["exposure"],
            explain=False,
            limit=1,
        )
    )
