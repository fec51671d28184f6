"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from buffer import signals
from buffer.models import File, Storage
from ingest.models import Ingester
from tests import hypothesis_profiles

#: Real headers and files, beside the project.
SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

hypothesis_profiles.register()


def unavailable(reason: str) -> None:
    """Skip a test for want of a server or tool, or fail where none may be skipped (CI)."""
    if os.environ.get("REQUIRE_SERVERS"):
        pytest.fail(f"nothing may be skipped here, but {reason}")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def nobody_asked_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test be in a hurry because an earlier one stopped a command in this process."""
    monkeypatch.setattr(signals, "_latest", None)


@pytest.fixture
def database_url(transactional_db: None) -> str:
    """The test's database, for processes that are started by it; its own connection is closed.

    What such processes are to see must be committed, hence the transactional database.
    """
    settings = connection.settings_dict
    connection.close()
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    return f"{os.environ['TEST_POSTGRES_URL'].rpartition('/')[0]}/{settings['NAME']}"


_DATABASE_FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "live_server"}


def _uses_database(item: pytest.Item) -> bool:
    if any(item.iter_markers("django_db")) or any(item.iter_markers("both_databases")):
        return True
    return not _DATABASE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With PostgreSQL run only what uses the database; the pass with SQLite runs everything."""
    if os.environ.get("TEST_DATABASE") != "postgresql":
        return
    others = [item for item in items if not _uses_database(item)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if _uses_database(item)]


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what hostile file names leave in captured output.

    The processes of a parallel run end where a report is not valid UTF-8.
    """
    report = yield
    report.sections = [(name, _sendable(text)) for name, text in report.sections]
    text = str(report.longrepr) if report.failed else ""
    if text != _sendable(text):
        report.longrepr = _sendable(text)
    return report


@pytest.fixture
def storage(db: None, tmp_path: Path) -> Storage:
    """A storage area in a temporary directory."""
    root = tmp_path / "storage"
    root.mkdir()
    return Storage.objects.create(name="files", root=str(root))


@pytest.fixture
def ingester(storage: Storage) -> Ingester:
    """A target that reads the storage."""
    return Ingester.objects.create(name="gen3_file_events", storage=storage, plugin="NullIngest")


@pytest.fixture
def make_file(storage: Storage) -> Callable[..., File]:
    """Make a stored file: its row, and with ``content`` its bytes too."""
    count = 0

    def make(**fields: Any) -> File:
        nonlocal count
        count += 1
        from django.utils import timezone

        content: bytes | None = fields.pop("content", None)
        defaults: dict[str, Any] = {
            "storage": storage,
            "relpath": "2026-11-23",
            "filename": f"exposure_{count:06d}.fits",
            "checksum": f"{count:064x}",
            "checksum_algorithm": "blake3",
            "size_bytes": 1000 if content is None else len(content),
            "stored_on": timezone.now(),
        }
        file = File.objects.create(**{**defaults, **fields})
        if content is not None:
            path = Path(file.path_below(storage.root))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return file

    return make
