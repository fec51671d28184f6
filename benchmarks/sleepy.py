"""A plugin that takes its time over each file and no machine's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import ClassVar

from ingest.plugins.base import Outcome, Plugin

SLEEP_S = 0.05


class Sleepy(Plugin):
    """Sleeps, and says that it was well."""

    in_order: ClassVar[bool] = True

    def version(self) -> str:
        """Return a version."""
        return "1"

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        """Yield success for every path, each after a while."""
        for path in paths:
            time.sleep(SLEEP_S)
            yield Outcome.success(path)
