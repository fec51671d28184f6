"""What a repository knows already: instruments, detectors, filters, the raws' dataset type.

A Butler caches these, and another process may have added one since.  So whatever is not found is
looked up once more after `Registry.refresh`, at most once per batch: a night of files of an
unknown filter must not refresh for each of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lsst.daf.butler import Butler, DatasetType
from lsst.daf.butler.registry import ConflictingDefinitionError, MissingDatasetTypeError
from lsst.pipe.base import Instrument

from buffer.names import escape

from .faults import describe, is_transient
from .headers import HeaderError
from .instruments import BUILTIN

if TYPE_CHECKING:
    from astro_metadata_translator import ObservationInfo

_DEFAULT_RAW = ("raw", ("instrument", "detector", "exposure"), "Exposure")


class NotRegisteredError(HeaderError):
    """The repository lacks something that the file needs; an operator has to add it."""


class Registered:
    """Look-ups in a repository's registry, with memory.

    Parameters
    ----------
    butler : `lsst.daf.butler.Butler`
        The repository, open for writing.
    """

    def __init__(self, butler: Butler) -> None:
        self._butler = butler
        self._instruments: dict[str, Instrument] = {}
        self._detectors: dict[str, frozenset[int]] = {}
        self._filters: dict[str, frozenset[str]] = {}
        self._dataset_types: dict[str, DatasetType] = {}
        self._runs: set[str] = set()
        self._may_refresh = True

    def new_batch(self) -> None:
        """Allow one more refresh."""
        self._may_refresh = True

    def refresh(self) -> None:
        """Forget everything and read the registry anew."""
        self._may_refresh = False
        self._instruments.clear()
        self._detectors.clear()
        self._filters.clear()
        self._butler.registry.refresh()

    def instrument(self, info: ObservationInfo) -> Instrument:
        """Return the instrument of an observation.

        Raises
        ------
        NotRegisteredError
            The repository does not know it, or this installation not its class.
        """
        name = info.instrument
        if name not in self._instruments:
            try:
                found = self._find_instrument(name)
            except LookupError:
                found = None
            if found is None and self._may_refresh:
                self.refresh()
                return self.instrument(info)
            if found is None:
                raise NotRegisteredError(self._no_instrument(name))
            self._instruments[name] = found
        return self._instruments[name]

    def require(self, info: ObservationInfo) -> None:
        """Check that an observation's detector and filter are registered.

        Raises
        ------
        NotRegisteredError
            One of them is not.
        """
        name = info.instrument
        problem = self._missing(info)
        if problem and self._may_refresh:
            self.refresh()
            problem = self._missing(info)
        if problem:
            raise NotRegisteredError(
                f"{problem} of instrument {name} is not registered in the repository; "
                "if it is right, add it to the instrument's class and run: "
                "butler register-instrument --update REPOSITORY CLASS"
            )

    def dataset_type(self, instrument: Instrument) -> DatasetType:
        """Return the type of an instrument's raws, registering it if the repository has none.

        Raises
        ------
        NotRegisteredError
            The repository's type of that name has other dimensions.
        """
        name, dimensions, storage_class = instrument.raw_definition or _DEFAULT_RAW
        if name in self._dataset_types:
            return self._dataset_types[name]
        butler = self._butler
        try:
            # The repository's own definition rules: one made by the stack stores an Exposure.
            found = butler.get_dataset_type(name)
        except (MissingDatasetTypeError, KeyError):
            found = DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
            try:
                butler.registry.registerDatasetType(found)
            except ConflictingDefinitionError:
                self.refresh()
                found = butler.get_dataset_type(name)
        if set(found.dimensions.required) != set(butler.dimensions.conform(dimensions).required):
            raise NotRegisteredError(
                f"the repository defines dataset type {name} with dimensions "
                f"{', '.join(found.dimensions.required)}; expected {', '.join(dimensions)}"
            )
        self._dataset_types[name] = found
        return found

    def run(self, name: str) -> str:
        """Register a RUN collection unless it is there, and return its name."""
        if name not in self._runs:
            self._butler.collections.register(name)
            self._runs.add(name)
        return name

    def _find_instrument(self, name: str) -> Instrument:
        try:
            return Instrument.fromName(name, self._butler.registry)
        except LookupError:
            raise
        except Exception as error:
            if is_transient(error):
                raise
            raise NotRegisteredError(
                f"the repository defines instrument {name} by a class that "
                f"cannot be used here ({describe(error)}); install the package that has it"
            ) from error

    def _no_instrument(self, name: str) -> str:
        known = self._names("instrument")
        have = f" (registered: {', '.join(known)})" if known else ""
        ours = BUILTIN.get(name)
        cls = f"{ours.__module__}.{ours.__qualname__}" if ours else "CLASS"
        return (
            f"instrument {escape(name)} is not registered in the repository{have}; run: "
            f"butler register-instrument REPOSITORY {cls}"
        )

    def _missing(self, info: ObservationInfo) -> str | None:
        name = info.instrument
        if name not in self._detectors:
            self._detectors[name] = frozenset(
                int(record.id)
                for record in self._butler.query_dimension_records(
                    "detector", instrument=name, explain=False
                )
            )
            self._filters[name] = frozenset(self._names("physical_filter", instrument=name))
        if info.detector_num not in self._detectors[name]:
            return f"detector {info.detector_num}"
        if info.physical_filter not in self._filters[name]:
            near = difflib.get_close_matches(info.physical_filter, self._filters[name], n=1)
            hint = f" (nearest: {near[0]!r})" if near else ""
            return f"filter {escape(info.physical_filter)!r}{hint}"
        return None

    def _names(self, element: str, **data_id: str) -> list[str]:
        records: Iterable[object] = self._butler.query_dimension_records(
            element, explain=False, **data_id
        )
        return sorted(str(getattr(record, "name")) for record in records)  # noqa: B009
