"""Headers of FITS files, read just far enough to compare two of them.

Nobody vouches for such a file: whatever it holds, a bounded part of it is read and any text comes
out of it as text. Values are compared as they are written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

_BLOCK: Final = 2880
_CARD: Final = 80
#: Blocks of a file that are read at most: some 4,600 cards.
_BLOCKS: Final = 128
_COMMENTS: Final = frozenset({"COMMENT", "HISTORY", ""})

Header = dict[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """A keyword whose value differs; None where it is missing."""

    keyword: str
    left: str | None
    right: str | None


def read_header(descriptor: int) -> Header | None:
    """Read the primary header of an open file, and the next one if the first has no data.

    Parameters
    ----------
    descriptor : `int`
        The file, open for reading.

    Returns
    -------
    header : `dict` [`str`, `str`] or `None`
        Values by keyword, comments left out; a keyword of the second header is ``1:NAME``. None if
        it is no FITS file, or its header does not end.

    Raises
    ------
    OSError
        It cannot be read.
    """
    primary, end = _one_header(descriptor, 0, b"SIMPLE  =")
    if primary is None:
        return None
    if primary.get("NAXIS") == "0":
        # A compressed image, among others, has its header there.
        extension, _ = _one_header(descriptor, end, b"XTENSION=")
        for keyword, value in (extension or {}).items():
            primary[f"1:{keyword}"] = value
    return primary


def differences(left: Header, right: Header) -> list[Difference]:
    """Give the keywords whose values differ, in the order in which they are met."""
    return [
        Difference(keyword, left.get(keyword), right.get(keyword))
        for keyword in dict.fromkeys((*left, *right))
        if left.get(keyword) != right.get(keyword)
    ]


def _one_header(descriptor: int, begin: int, magic: bytes) -> tuple[Header | None, int]:
    header: Header = {}
    for number in range(_BLOCKS):
        at = begin + number * _BLOCK
        block = os.pread(descriptor, _BLOCK, at)
        if len(block) < _BLOCK or (number == 0 and not block.startswith(magic)):
            return None, at
        for start in range(0, _BLOCK, _CARD):
            card = block[start : start + _CARD].decode("latin-1")
            keyword = card[:8].rstrip()
            if keyword == "END":
                return header, at + _BLOCK
            if keyword not in _COMMENTS:
                header.setdefault(*_value(keyword, card))
    return None, begin


def _value(keyword: str, card: str) -> tuple[str, str]:
    """Part a card into its keyword and its value, without the comment."""
    if keyword == "HIERARCH" and "=" in card:
        keyword, _, text = card[8:].partition("=")
        keyword = keyword.strip()
    else:
        text = card[10:] if card[8:10] == "= " else card[8:]
    text = text.strip()
    if not text.startswith("'"):
        return keyword, text.partition("/")[0].strip()
    # A quote within a text is doubled.
    end = 1
    while (end := text.find("'", end)) != -1 and text[end : end + 2] == "''":
        end += 2
    return keyword, text[1 : end if end != -1 else None].replace("''", "'").rstrip()
