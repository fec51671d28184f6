"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buffer.models import File, Storage
from ingest.models import Ingester

#: Real headers and files, beside the project.
SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def unavailable(reason: str) -> None:
    """Skip a test for want of a server or tool, or fail where none may be skipped (CI)."""
    if os.environ.get("REQUIRE_SERVERS"):
        pytest.fail(f"nothing may be skipped here, but {reason}")
    pytest.skip(reason)


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
