"""Lists as CSV: complete, streamed, and nothing in them is calculated."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from buffer import csv_export
from buffer.csv_export import cell, csv_response


@pytest.mark.parametrize(
    "begin", ["=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "  =", "\xa0="]
)
def test_no_text_is_a_formula(begin: str) -> None:
    text = f'{begin}HYPERLINK("http://x";"y")'
    written = cell(text)
    assert written[0] not in "=+-@\t\r\n \u00a0\uff1d\uff0b"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, ""),
        (-1, "-1"),
        (-1.5, "-1.5"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        ("a=b", "a=b"),
        ("", ""),
        ("\r=1", "\\x0d=1"),
        ("a\u202eb\x1b", "a\\u202eb\\x1b"),
        ("postgres://u:secret@h", "postgres://u:***@h"),
    ],
)
def test_values(value: object, written: str) -> None:
    assert cell(value) == written


def read(answer: Any) -> list[list[str]]:
    text = b"".join(answer.streaming_content).decode()
    return list(csv.reader(io.StringIO(text, newline="")))


def test_quoting_and_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_export, "MOST", 2)
    columns = (("a", lambda row: row), ("b", lambda row: 1))
    hostile = 'x",\r\n"=1'
    rows = read(csv_response("list", columns, [hostile, "y"]))
    # A carriage return would begin a new row in some spreadsheets.
    assert rows == [["a", "b"], ['x",\\x0d\n"=1', "1"], ["y", "1"]]
    rows = read(csv_response("list", columns, iter("xyz")))
    assert len(rows) == 4 and "Only the first 2 rows" in rows[-1][0]
