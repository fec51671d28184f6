"""The target of the simulated night: a plugin that takes its time, and is away while a file is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from ingest.plugins.base import Outcome, Plugin


class Target(Plugin):
    """Writes down what it takes, so that what it gets twice is there twice.

    Parameters
    ----------
    config : Mapping[str, Any]
        ``list``: where; ``down``: the file that says that it is away; ``seconds``: for each file.
    """

    in_order: ClassVar[bool] = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self._down = str(config["down"])
        self._seconds = float(config["seconds"])
        self._list = os.open(config["list"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def version(self) -> str:
        """Return the version of the simulation."""
        return "night 1"

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        """Take each, unless it is away."""
        # Sleeping for each would take far longer than such short times.
        time.sleep(self._seconds * len(paths))
        for path in paths:
            if os.path.exists(self._down):
                yield Outcome.failure(path, "the target does not answer", transient=True)
            else:
                os.write(self._list, f"{os.path.basename(path)}\n".encode())
                yield Outcome.success(path)
