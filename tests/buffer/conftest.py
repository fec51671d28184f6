"""Fixtures for the finder: a buffer, a storage area, and cycles."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from pytest_django import DjangoDbBlocker

from buffer import database, storages
from buffer.cycle import Cycle
from buffer.discovery import Arrival
from buffer.finder import Finder
from buffer.finder_config import Finder as FinderSection
from buffer.ledger import Ledger
from buffer.models import File, Refusal
from buffer.passage import Passage
from buffer.refusals import Refusals
from buffer.settling import Settling
from buffer.trees import Tree


class Ground:
    """A buffer and a storage area with everything that works between them."""

    def __init__(self, tmp_path: Path, root: Path | None = None) -> None:
        self.source, self.root = tmp_path / "buffer", root or tmp_path / "store"
        self.source.mkdir()
        self.root.mkdir(exist_ok=True)
        self.storage = storages.register("files", self.root, fsync=False)
        self._trees = ExitStack()
        self.options: dict[str, Any] = {
            "source": str(self.source),
            "storage": str(self.root),
            "actions": {"standard": "Move", "alternative": "Delete"},
            "search": {"method": "scan", "delay": 0},
            "fsync": False,
        }

    def put(self, name: str, content: bytes = b"content") -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def arrival(self, name: str) -> Arrival:
        relpath, _, filename = name.rpartition("/")
        return Arrival(relpath, filename, os.lstat(self.source / name))

    def finder(self, **changes: Any) -> Finder:
        return Finder(FinderSection.model_validate({**self.options, **changes}), self.storage)

    def passage(self, **changes: Any) -> Passage:
        fields: dict[str, Any] = {
            "storage": self.storage,
            "source": self._trees.enter_context(Tree(self.source)),
            "target": self._trees.enter_context(Tree(self.root)),
            "move": True,
            "algorithm": "blake3",
            "fsync": False,
            "staging": "me-",
        }
        return Passage(**{**fields, **changes})

    def ledger(self, passage: Passage) -> Ledger:
        return Ledger(passage, Settling(0), Refusals(self.storage, str(self.source)))

    def refusal(self) -> Refusal:
        return Refusal.objects.get()

    def stored(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def check(self) -> None:
        """I2: every row has its bytes, and every file in storage has a row."""
        rows = {file.path for file in File.objects.stored()}
        there = {
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if path.is_file() and ".incoming" not in path.parts and path.name != ".endpoint-storage"
        }
        assert rows == there
        assert not File.objects.intents().exists()
        assert not [name for name in self.incoming() if name.endswith(".part")]

    def incoming(self) -> list[str]:
        directory = self.root / ".incoming"
        return sorted(os.listdir(directory)) if directory.exists() else []

    def close(self) -> None:
        """Close the directories that passages opened."""
        self._trees.close()


def cycle(finder: Finder) -> Cycle:
    """Run one cycle to its end."""
    return finder.cycle(until=time.monotonic() + 30, stop=lambda: False)


@pytest.fixture
def ground(db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """A buffer and a storage area on one file system."""
    # It would close the connection that the test's transaction is open on.
    monkeypatch.setattr("buffer.finder.outages.away", lambda error: None)
    ground = Ground(tmp_path)
    yield ground
    ground.close()


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than tmp_path."""
    import shutil
    import tempfile

    from tests.conftest import unavailable

    directory = Path(tempfile.mkdtemp(prefix="endpoint-", dir="/dev/shm"))
    if directory.stat().st_dev == tmp_path.stat().st_dev:
        directory.rmdir()
        unavailable("/dev/shm is no other file system")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def refuse_links(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make the kernel refuse hard links, as it does for files of other users."""

    def refuse() -> None:
        def link(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("os.link", link)

    return refuse


@pytest.fixture
def own_default(
    monkeypatch: pytest.MonkeyPatch, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Let a test change the default connection, and put it back."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(database, "_given_by_us", None)
    kept = connections.settings["default"]
    wrapper = connections["default"]
    copy = dict(kept)
    with django_db_blocker.unblock():
        yield
        database._log_statements(False)
        connections["default"].close()
        connections["default"] = wrapper
        kept.clear()
        kept.update(copy)
        connections.settings["default"] = settings.DATABASES["default"] = kept
        os.environ.pop("DATABASE_URL", None)
