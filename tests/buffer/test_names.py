from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buffer.names import escape, is_temporary, why_bad

# Any name a POSIX file system can hand over, lone surrogates included.
TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name-1.fits", "plain name-1.fits"),
        ("größe 望遠鏡.fits", "größe 望遠鏡.fits"),
        ("a\nb\t\x7f\x85", r"a\x0ab\x09\x7f\x85"),
        ("a\\nb", r"a\x5cnb"),
        ("\u202egnp.exe\u2028", r"\u202egnp.exe\u2028"),
        ("\U000e0001x", r"\U000e0001x"),
        (b"caf\xe9", r"caf\udce9"),
        (Path("sub/a b.fits"), "sub/a b.fits"),
        ("", ""),
    ],
)
def test_escape(name: str | bytes | Path, shown: str) -> None:
    assert escape(name) == shown


@given(TEXT)
@example("\\x0a")
@example("\udc80\x80")
def test_escape_can_be_undone_and_is_one_printable_line(name: str) -> None:
    shown = escape(name)
    assert shown.isprintable()
    shown.encode("utf-8")
    # Injective: the name comes back.  Letters above U+007F are hidden from the decoder.
    ascii_only = "".join(c if ord(c) < 0x80 else f"\\U{ord(c):08x}" for c in shown)
    assert ascii_only.encode("ascii").decode("unicode_escape") == name


@pytest.mark.parametrize(
    ("relpath", "filename", "reason"),
    [
        ("", "b\udce9.fits", "not UTF-8"),
        ("b\udce9", "a.fits", "not UTF-8"),
        ("", "a\nb.fits", r"control character \x0a"),
        ("", "a\x9f", r"control character \x9f"),
        ("", "a\0b", r"control character \x00"),
        ("/etc", "passwd", "absolute"),
        ("", "/passwd", "absolute"),
        ("a", "b/c", "slash"),
        ("..", "a", "'..'"),
        ("a/../b", "a", "'..'"),
        (".", "a", "'.'"),
        ("a", "..", "'..'"),
        ("a", "", "empty"),
        ("", "", "empty"),
        ("a//b", "c", "empty"),
        ("a/", "c", "empty"),
        (".incoming", "a.part", "reserved"),
        (".incoming/sub", "a", "reserved"),
        ("", ".incoming", "reserved"),
        ("", ".endpoint-storage", "reserved"),
        ("/".join(["x" * 249] * 9), "a", "2249 bytes"),
        ("", "é" * 128, "256 bytes"),
        ("é" * 128, "a", "256 bytes"),
    ],
)
def test_why_bad(relpath: str, filename: str, reason: str) -> None:
    told = why_bad(relpath, filename)
    assert told is not None
    assert reason in told


@pytest.mark.parametrize(
    ("relpath", "filename"),
    [
        ("", "a.fits"),
        ("20240101/raw", "a b'\"$;.fits"),
        ("a\\b", "c => d -> e"),
        ("", "é" * 127),
        ("", "...hidden"),
        ("sub", ".endpoint-storage"),
        ("sub/.incoming", "a"),
        ("/".join(["x" * 249] * 8), "a"),
    ],
)
def test_good_names(relpath: str, filename: str) -> None:
    assert why_bad(relpath, filename) is None


@given(TEXT, TEXT)
def test_a_good_name_can_not_leave_the_root(relpath: str, filename: str) -> None:
    if why_bad(relpath, filename) is not None:
        return
    path = f"{relpath}/{filename}" if relpath else filename
    assert Path("/root", path).as_posix() == f"/root/{path}"
    assert ".." not in path.split("/")


@pytest.mark.parametrize(
    ("relpath", "filename", "temporary"),
    [
        ("", ".a.fits.Xy12zQ", True),
        ("sub", "a.fits.part", True),
        ("", "a.partial", True),
        ("", "a.tmp", True),
        (".~tmp~", "a.fits", True),
        ("sub/.~tmp~", "a.fits", True),
        ("sub/.rsync-partial", "a.fits", True),
        ("", "a.fits", False),
        ("", ".hidden", False),
        ("", "a.fits.Xy12zQ", False),
        ("", ".a.fits.Xy12z", False),
        ("", ".a.fits.Xy12z_", False),
        ("", "..abcdef", False),
        ("not.~tmp~", "a.fits", False),
        ("", "a.parts", False),
        ("", "a.fits.Part", False),
    ],
)
def test_is_temporary(relpath: str, filename: str, temporary: bool) -> None:
    assert is_temporary(relpath, filename) is temporary
