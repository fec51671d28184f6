"""Plugins whose behaviour is written in the files that they are given."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.plugins.base import Outcome, Plugin


class ByContent(Plugin):
    """Does what the content of a file says."""

    in_order = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Need nothing."""

    def version(self) -> str:
        """Name a version."""
        return "by content 1"

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        """Yield what each file asks for."""
        for path in paths:
            what = Path(path).read_bytes()
            if what == b"kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif what == b"slow":
                time.sleep(60)
            elif what == b"bad":
                yield Outcome.failure(path, f"{path} is bad")
            elif what == b"transient":
                yield Outcome.failure(path, "not now", transient=True)
            else:
                yield Outcome.success(path, "already ingested" if what == b"known" else "")


class Counts(ByContent):
    """Says with how many files it was called."""

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        """Say it of each."""
        for path in paths:
            yield Outcome.success(path, f"one of {len(paths)}")


class CanTell(ByContent):
    """Can also tell which files are there: all but those whose content is ``absent``."""

    def contains(self, paths: Sequence[str]) -> list[str]:
        """Look into the files."""
        return [path for path in paths if Path(path).read_bytes() != b"absent"]


class HardToAsk(CanTell):
    """Cannot be asked about a file whose content is ``poison``."""

    def contains(self, paths: Sequence[str]) -> list[str]:
        """Look into the files."""
        if any(Path(path).read_bytes() == b"poison" for path in paths):
            raise ConnectionError("no answer")
        return super().contains(paths)


class CannotLoad(Plugin):
    """Has a target that is never there."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Fail."""
        raise ConnectionError("the target is down")

    def version(self) -> str:
        """Never called."""
        return ""

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        """Never called."""
        raise AssertionError


class Unmounts(Plugin):
    """Takes the storage away when it is first called, and cannot read its files then."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Take the storage's root."""
        self.root: Path | None = Path(config["root"])

    def version(self) -> str:
        """Name a version."""
        return "unmounts 1"

    def ingest(self, paths: Sequence[str]) -> Iterator[Outcome]:
        """Read each file."""
        if self.root is not None:
            self.root.rename(self.root.with_name("elsewhere"))
            self.root = None
        for path in paths:
            try:
                Path(path).read_bytes()
            except OSError as error:
                yield Outcome.failure(path, str(error))
            else:
                yield Outcome.success(path)
