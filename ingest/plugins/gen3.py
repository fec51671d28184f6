"""Gen3Ingest: raw files into an LSST Gen3 Butler repository."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ingest.plugins.base import Outcome, Plugin, PluginConfigError

if TYPE_CHECKING:
    from ingest.butler.target import Target

__all__ = ["Gen3Ingest"]


class Gen3Ingest(Plugin):
    """Ingests with ``lsst.obs.base.RawIngestTask``, or without the stack with a task of our own.

    Parameters
    ----------
    config : mapping
        Sections ``butler``, ``ingest`` and optionally ``visits``; see docs/butler.md.

    Raises
    ------
    ingest.plugins.base.PluginConfigError
        A key is wrong, or packages are missing.

    Notes
    -----
    A batch is one transaction, so outcomes come at its end.  Should the process die before,
    `contains` tells which files got in.
    """

    in_order: ClassVar[bool] = False

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        # Imported here: the packages are an extra, and take two seconds to import.
        try:
            from ingest.butler.target import Target
        except ImportError as error:
            raise PluginConfigError(
                f"plugin.name: Gen3Ingest needs packages that are not installed ({error}); "
                "run: pip install -r requirements-butler.txt, or set up the LSST stack"
            ) from error
        self._target: Target = Target(config)

    def version(self) -> str:
        """Return the versions of the Butler and of what ingests into it."""
        return self._target.version()

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        """Ingest files as one batch.

        Parameters
        ----------
        paths : sequence of `str`
            Absolute paths.

        Yields
        ------
        outcome : `ingest.plugins.base.Outcome`
            One for each different path.
        """
        yield from self._target.ingest(paths).values()

    def contains(self, paths: Sequence[str]) -> Collection[str]:
        """Return those of the paths that the repository has: the file itself, not a conflict."""
        return self._target.contains(paths)
