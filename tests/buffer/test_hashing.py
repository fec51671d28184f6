"""Checksums."""

from __future__ import annotations

import hashlib
from pathlib import Path

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
