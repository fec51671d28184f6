"""FITS headers, as far as two of them are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from buffer.fits_headers import Header, differences, read_header


def fits(*cards: str, more: bytes = b"") -> bytes:
    text = "".join(card.ljust(80) for card in ("SIMPLE  =                    T", *cards, "END"))
    return text.ljust(-(-len(text) // 2880) * 2880).encode("latin-1") + more


def extension(*cards: str) -> bytes:
    return b"XTENSION= 'BINTABLE'".ljust(80) + fits(*cards)[80:]


def read(path: Path, content: bytes) -> Header | None:
    path.write_bytes(content)
    with open(path, "rb") as file:
        return read_header(file.fileno())


def test_values(tmp_path: Path) -> None:
    header = read(
        tmp_path / "f",
        fits(
            "NAXIS   =                    2 / axes",
            "OBJECT  = 'it''s / a name '    / of it",
            "EXPTIME = 30.0",
            "HIERARCH LONG KEY = 'x'",
            "COMMENT = nothing",
            "HISTORY old",
            "EXPTIME = 31.0",
            "OPEN    = 'never closed",
        ),
    )
    assert header == {
        "SIMPLE": "T",
        "NAXIS": "2",
        "OBJECT": "it's / a name",
        "EXPTIME": "30.0",
        "LONG KEY": "x",
        "OPEN": "never closed",
    }


def test_the_next_header_if_the_first_has_no_data(tmp_path: Path) -> None:
    more = extension("ZIMAGE  =                    T")
    header = read(tmp_path / "f", fits("NAXIS   = 0", more=more))
    assert header is not None and header["1:ZIMAGE"] == "T"
    header = read(tmp_path / "f", fits("NAXIS   = 1", more=more))
    assert header is not None and "1:ZIMAGE" not in header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"SIMPLE",
        b"SIMPLE  =" + b" " * 2871,
        b"no FITS".ljust(2880),
        b"SIMPLE  =".ljust(2880) * 500,
        bytes(range(256)) * 100,
    ],
)
def test_what_is_no_header(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path / "f", content) is None


def test_any_bytes_come_out_as_text(tmp_path: Path) -> None:
    header = read(tmp_path / "f", fits("OBJECT  = '\x00\xff<script>\x1b'"))
    assert header is not None and header["OBJECT"] == "\x00\xff<script>\x1b"


def test_differences() -> None:
    found = differences({"A": "1", "B": "2", "C": "3"}, {"A": "1", "B": "9", "D": "4"})
    assert [(one.keyword, one.left, one.right) for one in found] == [
        ("B", "2", "9"),
        ("C", "3", None),
        ("D", None, "4"),
    ]
