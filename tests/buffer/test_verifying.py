"""One stored file, looked at now."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from buffer import storages
from buffer.hashing import ALGORITHMS
from buffer.models import File, FindingKind, Storage, Suspicion
from buffer.verifying import Look, Verdict, verify

pytestmark = pytest.mark.django_db


@pytest.fixture
def file(storage: Storage, make_file: Callable[..., File]) -> File:
    storages.register(storage.name, Path(storage.root), fsync=False)
    content = b"content" * 1000
    return make_file(content=content, checksum=ALGORITHMS["blake3"](content).hexdigest())


def look(file: File, **options: float) -> Look:
    return verify(File.objects.get(pk=file.pk), user="ann", **options)


def path_of(file: File) -> Path:
    return Path(file.path_below(file.storage.root))


def test_good(file: File) -> None:
    assert look(file).verdict is Verdict.GOOD
    assert not Suspicion.objects.exists()


def test_a_flipped_bit_is_marked_and_its_mend_cleared(file: File) -> None:
    path, content = path_of(file), path_of(file).read_bytes()
    path.write_bytes(b"C" + content[1:])
    found = look(file)
    assert found.verdict is Verdict.BAD and "CHANGED" in found.text and "backup" in found.text
    mark = Suspicion.objects.get()
    assert mark.kind == FindingKind.CHANGED and mark.found_by.startswith("ann on ")
    path.write_bytes(content)
    found = look(file)
    assert found.verdict is Verdict.GOOD and "cleared" in found.text
    mark.refresh_from_db()
    assert mark.cleared_on is not None and mark.cleared_by.startswith("ann on ")


def test_missing_and_something_else(file: File) -> None:
    path_of(file).unlink()
    assert "MISSING" in look(file).text
    os.symlink("/etc/passwd", path_of(file))
    assert "NOT_REGULAR" in look(file).text
    assert [mark.kind for mark in Suspicion.objects.standing()] == [FindingKind.NOT_REGULAR]


def test_a_storage_that_is_not_mounted_says_nothing_of_the_file(file: File) -> None:
    (Path(file.storage.root) / ".endpoint-storage").unlink()
    found = look(file)
    assert found.verdict is Verdict.UNKNOWN and "not mounted" in found.text
    Storage.objects.update(root="/nowhere\u202e")
    found = look(file)
    assert found.verdict is Verdict.UNKNOWN and "\u202e" not in found.text
    assert not Suspicion.objects.exists()


def test_too_large_for_whoever_waits(file: File) -> None:
    found = look(file, longest_s=-1.0)
    assert found.verdict is Verdict.UNKNOWN and "audit --checksums" in found.text
    assert not Suspicion.objects.exists()


def test_a_second_row_is_for_an_audit_to_judge(file: File) -> None:
    Suspicion.objects.create(file=file, kind=FindingKind.DUPLICATE)
    assert look(file).verdict is Verdict.GOOD
    assert Suspicion.objects.standing().exists()
