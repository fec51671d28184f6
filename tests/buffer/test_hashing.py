"""Checksums."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from blake3 import blake3

from buffer import hashing
from buffer.finder_config import Checksum
from buffer.hashing import ALGORITHMS, checksums


def test_all_at_once_and_a_copy(tmp_path: Path) -> None:
    content = b"0123456789" * 300_000
    (tmp_path / "a").write_bytes(content)
    copy: list[bytes] = []
    with open(tmp_path / "a", "rb") as file:
        found = checksums(file.fileno(), list(ALGORITHMS), sink=copy.append)
    assert found == {
        "blake3": blake3(content).hexdigest(),
        "blake2b": hashlib.blake2b(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
    }
    assert b"".join(copy) == content


def test_every_algorithm_of_the_configuration() -> None:
    assert set(ALGORITHMS) == set(Checksum)


def test_a_file_that_grows_as_fast_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * hashing.BLOCK_BYTES)

    def grow(block: bytes) -> None:
        with open(path, "ab") as more:
            more.write(block)

    with open(path, "rb") as file:
        checksums(file.fileno(), ["md5"], size=hashing.BLOCK_BYTES, sink=grow)
    assert path.stat().st_size < 4 * hashing.BLOCK_BYTES


_SIZES = [0, 1, 1000, *(hashing.BLOCK_BYTES + more for more in (-1, 0, 1))]


@pytest.mark.parametrize("size", _SIZES)
def test_a_file_of_the_expected_size_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "a").write_bytes(content)
    copy: list[bytes] = []
    with open(tmp_path / "a", "rb") as file:
        found = checksums(file.fileno(), ["blake3"], size=size, sink=copy.append)
    assert found == {"blake3": blake3(content).hexdigest()}
    assert b"".join(copy) == content


@pytest.mark.parametrize("more", [1, hashing.BLOCK_BYTES])
def test_a_longer_file_has_another_checksum(tmp_path: Path, more: int) -> None:
    for size in _SIZES:
        (tmp_path / "a").write_bytes(bytes(size + more))
        with open(tmp_path / "a", "rb") as file:
            found = checksums(file.fileno(), ["blake3"], size=size)
        assert found["blake3"] != blake3(bytes(size)).hexdigest()


def test_reads_that_give_less_than_they_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, offset: read(fd, min(n, 3), offset))
    with open(tmp_path / "a", "rb") as file:
        found = checksums(file.fileno(), ["md5"], size=10)
    assert found == {"md5": hashlib.md5(b"0123456789").hexdigest()}


def test_a_small_file_is_read_by_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    asked: list[int] = []
    read = os.pread

    def pread(descriptor: int, count: int, offset: int) -> bytes:
        asked.append(count)
        return read(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", pread)
    with open(tmp_path / "a", "rb") as file:
        checksums(file.fileno(), ["md5"], size=10)
    assert asked == [11]
