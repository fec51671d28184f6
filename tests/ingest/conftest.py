"""A Butler repository of its own for each test, quickly.

The Butler is imported by the fixtures that need it: it takes two seconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lsst.daf.butler import Butler


@pytest.fixture(scope="session")
def empty_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that knows both cameras and has no files; to be copied, never written to."""
    from ingest.butler.repository import make_repository

    return Path(make_repository(tmp_path_factory.mktemp("butler") / "template"))


@pytest.fixture
def repository(empty_repository: Path, tmp_path: Path) -> Path:
    """A repository to write to."""
    return Path(shutil.copytree(empty_repository, tmp_path / "repository"))


@pytest.fixture
def open_repository(repository: Path) -> Iterator[Callable[[], Butler]]:
    """Open the test's repository, as another process would: with caches of its own."""
    from lsst.daf.butler import Butler

    opened: list[Butler] = []

    def open_() -> Butler:
        butler = Butler.from_config(repository, writeable=True)
        opened.append(butler)
        return butler

    yield open_
    for butler in opened:
        butler.close()


@pytest.fixture
def butler(open_repository: Callable[[], Butler]) -> Butler:
    """The test's repository, open for writing."""
    return open_repository()


@pytest.fixture
def raws(tmp_path: Path) -> Path:
    """A directory for raw files."""
    directory = tmp_path / "storage"
    directory.mkdir()
    return directory
