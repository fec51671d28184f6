"""Plugins of an observatory, as somebody else would write them: no base class, one module.

A copy of this file is put on the PYTHONPATH of the commands under test.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.plugins.base import Outcome


class Counting:
    """Appends the name of each file to a list: whatever is ingested twice is there twice."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.list = str(config["list"])
        self.pause_s = float(config.get("pause", 0))

    def version(self) -> str:
        return "counting 1"

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        for path in paths:
            descriptor = os.open(self.list, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(descriptor, f"{os.path.basename(path)}\n".encode())
            os.close(descriptor)
            time.sleep(self.pause_s)
            yield Outcome.success(path)


class CountingAndTelling(Counting):
    """Can also tell what is on the list."""

    def contains(self, paths: Sequence[str]) -> Collection[str]:
        listed = set(Path(self.list).read_text().split("\n")) if os.path.exists(self.list) else ()
        return [path for path in paths if os.path.basename(path) in listed]


class Moody:
    """Does what the name of a file says, and keeps a list of its attempts.

    ``bad``: refused for good. ``busy``: refused for now, always. ``N-late``: refused for now until
    the N-th attempt. Anything else is taken.
    """

    in_order = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.list = Path(config["list"])

    def version(self) -> str:
        return "moody 1"

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        for path in paths:
            name = os.path.basename(path)
            with self.list.open("a") as attempts:
                attempts.write(f"{name} {time.time()}\n")
            tried = sum(line.startswith(f"{name} ") for line in self.list.read_text().split("\n"))
            if "bad" in name:
                yield Outcome.failure(path, f"{path}: no")
            elif "busy" in name or ("late" in name and tried < int(name.partition("-")[0])):
                yield Outcome.failure(path, f"{path}: not now", transient=True)
            else:
                yield Outcome.success(path)


class Registry(Counting):
    """Refuses for good what is of a filter, the first word of its name, that is not registered."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.registered = Path(config["registered"])

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        for path in paths:
            band = os.path.basename(path).partition("_")[0]
            if band in self.registered.read_text().split():
                yield from super().ingest([path])
            else:
                yield Outcome.failure(path, f"{path}: filter {band} is not registered")


class SometimesDown(Counting):
    """Cannot be made while a file says that its target is down."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        if os.path.exists(config["down"]):
            raise ConnectionError("the target does not answer")


class Outage(Counting):
    """Keeps a list of its attempts, and refuses all for now while a file says that it is down.

    With ``seconds`` each refusal takes that long, as when nobody answers.
    """

    in_order = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.down = str(config["down"])
        self.seconds = float(config.get("seconds", 0))

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        for path in paths:
            if os.path.exists(self.down):
                time.sleep(self.seconds)
                yield Outcome.failure(path, f"{path}: connection refused", transient=True)
            else:
                yield from super().ingest([path])
