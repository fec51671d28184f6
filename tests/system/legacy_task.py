"""A task with the interface of the legacy `lsst.pipe.tasks.ingest`, and a registry in a file.

A copy of this file is put on the PYTHONPATH of the commands under test under that name. A file
whose name has ``late`` is refused until the repository has a file ``calibrated``.
"""

from __future__ import annotations

import glob
import os
import sqlite3
import sys
from typing import Any

__version__ = "24.1"


class IngestError(RuntimeError):
    def __init__(self, message: str, pathname: str, position: int) -> None:
        super().__init__(message)
        self.pathname = pathname
        self.position = position


class IngestTask:
    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    @classmethod
    def prepareTask(
        cls,
        root: str | None = None,
        dryrun: bool = False,
        mode: str = "move",
        create: bool = False,
        ignoreIngested: bool = False,
    ) -> IngestTask:
        assert root is not None
        sys.argv = ["IngestTask", root, "--mode", mode]
        assert mode == "link", "the quickstart names no mode, and files must not be moved"
        if not os.path.exists(os.path.join(root, "_mapper")):
            print("IngestTask: error: no mapper found", file=sys.stderr)
            sys.exit(2)
        return cls(root=root, dryrun=dryrun, create=create, ignoreIngested=ignoreIngested)

    def ingestFiles(self, fileList: str | list[str]) -> None:
        names = [fileList] if isinstance(fileList, str) else fileList
        root = self.settings["root"]
        with sqlite3.connect(os.path.join(root, "registry.sqlite3")) as registry:
            registry.execute("CREATE TABLE IF NOT EXISTS raw (name TEXT UNIQUE)")
            for position, path in enumerate(path for name in names for path in glob.glob(name)):
                name = os.path.basename(path)
                print("ingesting", name)
                if "late" in name and not os.path.exists(os.path.join(root, "calibrated")):
                    raise IngestError(f"Failed to ingest file {path}", path, position)
                os.symlink(path, os.path.join(root, name))
                registry.execute("INSERT INTO raw VALUES (?)", (name,))
        registry.close()


def ingested(root: str) -> list[str]:
    """List the registry (for the tests, not a part of the interface)."""
    registry = sqlite3.connect(os.path.join(root, "registry.sqlite3"))
    try:
        return [name for (name,) in registry.execute("SELECT name FROM raw ORDER BY name")]
    finally:
        registry.close()
