"""Targets that backfill's --verify asks, for the tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ingest.plugins.base import Outcome, Plugin


class Catalogue(Plugin):
    """Has the files whose names are listed in ``config.has``; dies of ``config.deadly``."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        if config.get("away"):
            raise ConnectionError("the catalogue is away")

    def version(self) -> str:
        return "catalogue 7"

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        raise NotImplementedError

    def contains(self, paths: Sequence[str]) -> list[str]:
        names = {path: os.path.basename(path) for path in paths}
        if self.config.get("deadly") in names.values():
            os.kill(os.getpid(), signal.SIGKILL)
        root = self.config.get("root", "")
        return [p for p, name in names.items() if name in self.config["has"] and p.startswith(root)]
