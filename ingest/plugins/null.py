"""NullIngest: takes every file and does nothing; for trials and for measuring the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import buffer
from ingest.plugins.base import Outcome, Plugin


class NullIngest(Plugin):
    """A target that swallows everything.

    Parameters
    ----------
    config : Mapping[str, Any]
        Ignored.
    """

    in_order: ClassVar[bool] = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)

    def version(self) -> str:
        """Return the version of this program, since there is no other software involved."""
        return buffer.__version__

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        """Yield success for every path."""
        for path in paths:
            yield Outcome.success(path)
