"""The demo's directory: made anew for each run, and the only place that the demo writes to."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import yaml
from django.conf import settings

from buffer.names import escape

MARKER: Final = ".endpoint-demo"
STORAGE_NAME: Final = "files"
INGESTER_NAME: Final = "gen3_file_events"
#: Quiet time in seconds before an arrival counts as complete.
DELAY_S: Final = 2


class NotADemo(Exception):
    """The directory has something else in it, or a demo is running there."""


@dataclass(frozen=True)
class Place:
    """Paths in the demo's directory, and the environment of the commands that are run in it."""

    root: Path

    @property
    def sent(self) -> Path:
        """What was sent, as it was when it was made; the finder does not know of it."""
        return self.root / "sent"

    @property
    def buffer(self) -> Path:
        """Where files arrive."""
        return self.root / "buffer"

    @property
    def storage(self) -> Path:
        """Where they live afterwards."""
        return self.root / "storage"

    @property
    def repository(self) -> Path:
        """The Butler repository."""
        return self.root / "repository"

    @property
    def finder_yaml(self) -> Path:
        """The finder's configuration."""
        return self.root / "finder.yaml"

    @property
    def ingester_yaml(self) -> Path:
        """The ingester's configuration."""
        return self.root / "ingester.yaml"

    @property
    def backfill_yaml(self) -> Path:
        """The backfill's configuration."""
        return self.root / "backfill.yaml"

    @property
    def database_url(self) -> str:
        """The demo's own database."""
        return f"sqlite:///{quote(str(self.root / 'endpoint.sqlite3'))}"

    def settings(self) -> dict[str, str]:
        """Environment variables that point the program at this directory and nowhere else.

        Variables that are empty hide those of the environment and of ``.env``.
        """
        return {
            "DATABASE_URL": self.database_url,
            "ENDPOINT_DATA_DIR": str(self.root / "data"),
            "SECRET_KEY": "",
            "Q_BROKER_URL": "",
            "INGEST_PLUGINS": "",
            "DEBUG": "false",
        }

    def environment(self) -> dict[str, str]:
        """The whole environment of a command."""
        # The repository names classes of this project, which `butler` imports.
        path = [str(settings.BASE_DIR), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            **self.settings(),
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
        }


def make_place(root: Path) -> Place:
    """Make the directory anew, with the three YAML files.

    The descriptor of the marker stays open and locked for as long as this process lives, so that
    a second demo does not remove the directory under the first.

    Raises
    ------
    NotADemo
        What is there was not made by a demo.
    """
    root = root.resolve()
    _clear(root)
    root.mkdir(parents=True)
    _lock(root / MARKER)
    place = Place(root)
    for directory in (place.sent, place.buffer, place.storage):
        directory.mkdir()
    # For `make admin`, and for whoever wants to try commands: set -a; . demo/environment
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in place.settings().items()]
    (root / "environment").write_text("".join(lines), encoding="utf-8")
    _write_configuration(place)
    return place


def _clear(root: Path) -> None:
    if not root.exists():
        return
    if not root.is_dir():
        raise NotADemo(f"--directory: {escape(root)} is not a directory")
    marker = root / MARKER
    if marker.exists():
        os.close(_lock(marker))
        shutil.rmtree(root)
    elif any(root.iterdir()):
        raise NotADemo(
            f"--directory: {escape(root)} was not made by a demo (it has no {MARKER}) and is not "
            "empty; name another directory"
        )
    else:
        root.rmdir()


def _lock(marker: Path) -> int:
    descriptor = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise NotADemo(f"--directory: a demo is running in {escape(marker.parent)}") from None
    return descriptor


def _write_configuration(place: Place) -> None:
    files: dict[str, Any] = {"table": STORAGE_NAME}
    events: dict[str, Any] = {"table": INGESTER_NAME}
    ingester_database = {
        "engine": place.database_url,
        "tablenames": {"file": files, "event": events},
    }
    _write(
        place.finder_yaml,
        {
            "database": {"engine": place.database_url, "tablenames": {"file": files}},
            "finder": {
                "source": str(place.buffer),
                "storage": str(place.storage),
                "actions": {"standard": "Move", "alternative": "Delete"},
                "search": {"method": "scan", "delay": DELAY_S},
            },
            "logging": {"file": str(place.root / "finder.log")},
        },
    )
    _write(
        place.ingester_yaml,
        {
            "database": ingester_database,
            "ingester": {
                "plugin": {
                    "name": "Gen3Ingest",
                    "config": {"butler": {"root": str(place.repository)}},
                },
            },
            "logging": {"file": str(place.root / "ingester.log")},
        },
    )
    _write(
        place.backfill_yaml,
        {
            "database": ingester_database,
            "backfill": {"storage": str(place.storage), "sources": ["20*"]},
            "logging": {"file": str(place.root / "backfill.log")},
        },
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
