"""Checksums of open files, and copies made while they are computed.

Each byte is read once: under all algorithms that are asked for, and into the copy, if one is made.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Collection
from typing import Final, Protocol

from blake3 import blake3

BLOCK_BYTES: Final = 1 << 20


class _Digest(Protocol):
    def update(self, data: bytes, /) -> object: ...
    def hexdigest(self) -> str: ...


#: By the name under which a checksum is recorded. blake2b is what the older system used.
ALGORITHMS: Final[dict[str, Callable[[], _Digest]]] = {
    "blake3": blake3,
    "blake2b": hashlib.blake2b,
    "sha256": hashlib.sha256,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
}


def checksums(
    descriptor: int,
    algorithms: Collection[str],
    *,
    size: int | None = None,
    sink: Callable[[bytes], None] | None = None,
) -> dict[str, str]:
    """Read an open file from its beginning to its end.

    Parameters
    ----------
    descriptor : `int`
        The file, open for reading. Its position is not used and not changed.
    algorithms : `~collections.abc.Collection` [`str`]
        Names out of `ALGORITHMS`.
    size : `int`, optional
        Its size in bytes, if known: no more than one byte after it is read, so that a file that
        grows as fast as it is read does not keep us for ever, and a longer one has another
        checksum.
    sink : callable, optional
        Gets every block in turn, to make a copy.

    Returns
    -------
    checksums : `dict` [`str`, `str`]
        Hexadecimal digest by algorithm.

    Raises
    ------
    OSError
        Reading failed.
    """
    digests = {name: ALGORITHMS[name]() for name in algorithms}
    # A byte more than there should be is asked for: that it does not come tells the end of the file
    # without another read. Room for a whole block takes longer to make than a small file to read.
    limit = sys.maxsize if size is None else size + 1
    offset = 0
    while block := os.pread(descriptor, asked := min(BLOCK_BYTES, limit - offset), offset):
        for digest in digests.values():
            digest.update(block)
        if sink is not None:
            sink(block)
        offset += len(block)
        if offset == size and len(block) < asked:
            break
    return {name: digest.hexdigest() for name, digest in digests.items()}
