from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.problems import ConfigError
from buffer.yamlfile import MAX_BYTES, Document, read, show_key


def write(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "file.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_values_and_lines(tmp_path: Path) -> None:
    document = read(write(tmp_path, "a:\n  b: 1\n  c: [x, yes,\n    2.5]\n# x\nd: null\n"))
    assert document.data == {"a": {"b": 1, "c": ["x", True, 2.5]}, "d": None}
    assert document.line(("a", "b")) == 2
    assert document.line(("a", "c", 2)) == 4
    assert document.line(("a", "unknown")) == 1
    assert document.line(("d",)) == 6
    assert document.problems == ()


@pytest.mark.parametrize("text", ["2020-12-31", "2020-12-31 10:00:00", "=", "2020-13-45", "'5'"])
def test_dates_stay_text(tmp_path: Path, text: str) -> None:
    assert read(write(tmp_path, f"a: {text}")).data == {"a": text.strip("'")}


@pytest.mark.parametrize(
    "content",
    ["\ufeffa: é\n".encode(), "a: é\n".encode("utf-16"), "\ufeffa: é\n".encode("utf-16-be")],
)
def test_byte_order_marks(tmp_path: Path, content: bytes) -> None:
    assert read(write(tmp_path, content)).data == {"a": "é"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ": is empty"),
        (b"# nothing\n\n", ": is empty"),
        (b"\xef\xbb\xbf", ": is empty"),
        (b"- 1\n", ":1: expected keys and values, got a list"),
        (b"word", ":1: expected keys and values, got a single value"),
        (b"a: &x 1\nb: 2", ":1: anchors (&name) are not supported"),
        (b"a: 1\nb: *x", ":2: aliases (*name) are not supported"),
        (b"a:\n- *.fits", "put text that begins with * in quotes"),
        (b"a: !!python/object/apply:os.system [id]", ":1: tags (!!python/object/apply:os.system)"),
        (b"a: !secret x", "tags (!secret) are not supported"),
        (b"a: !!str 1", "tags (!!str) are not supported"),
        (b"!t a: 1", "tags (!t) are not supported"),
        (b"a: 1\n\tb: 2", ":2: is not valid YAML"),
        (b"a: [1\n", "is not valid YAML"),
        (b"a: 'x", "is not valid YAML"),
        (b"a: b: c", ":1: is not valid YAML"),
        (b"a: 1\n---\nb: 2\n", "expected a single document"),
        (b"a: 1\nb: \x07", ":2: holds the control character \\x07"),
        (b"a: \xff\n", ":1: is not a text file in UTF-8"),
        (b"\x7fELF\x00\x01", ": is a binary file"),
        (b"\xff\xfe\x00", ": is not a text file in UTF-8"),
        (b"[" * 100_000, ":1: is nested more than 30 levels deep"),
        (b"{a: " * 100_000, ":1: is nested more than 30 levels deep"),
        (b"a: " + b"x" * MAX_BYTES, ": is larger than 1 MB"),
    ],
)
def test_unreadable_content(tmp_path: Path, content: bytes, expected: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    [line] = caught.value.problems
    assert line.startswith(path)
    assert expected in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 1\nb: 2\na: 3", ":3: a: is there twice (first in line 1)"),
        ("s:\n  a: 1\n  'a': 2", ":3: s.a: is there twice (first in line 2)"),
        ("<<: {a: 1}", ":1: <<: merge keys"),
        ("? [a]\n: 1", ":1: a key must be text"),
        ("a: .nan", ":1: a: expected a finite number"),
        ("a: [1, -.inf]", ":1: a[1]: expected a finite number"),
        ("a: 0x_", ":1: a: is not a number"),
        (f"a: {'9' * 5000}", ":1: a: is not a number"),
    ],
)
def test_problems_that_leave_the_rest_readable(tmp_path: Path, content: str, expected: str) -> None:
    document = read(write(tmp_path, content))
    [problem] = document.problems
    assert problem.show(document.path) == document.path + problem.show("")
    assert expected in problem.show(document.path)


def test_all_duplicates_are_reported(tmp_path: Path) -> None:
    document = read(write(tmp_path, "a: 1\na: 2\nb: {c: 1, c: 2}\na: 3\n"))
    assert [problem.key for problem in document.problems] == ["a", "b.c", "a"]


def test_things_that_are_no_files(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, expected in [
        (tmp_path, "is a directory"),
        (fifo, "is not a regular file"),
        (tmp_path / "gone", "No such file"),
        ("a\0b", "NUL"),
    ]:
        with pytest.raises(ConfigError, match=expected):
            read(path)


def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.symlink_to(path)
    with pytest.raises(ConfigError, match="cannot be read: Too many levels"):
        read(path)


def test_the_name_of_the_file_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a\nb\x1b[31m.yaml"
    path.write_text("- 1")
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert r"a\x0ab\x1b[31m.yaml:1: " in str(caught.value)


def test_no_snippet_of_the_file_is_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(write(tmp_path, 'engine: "postgres://tester:hunter2@localhost/test" x'))
    assert "hunter2" not in str(caught.value)


def test_keys_are_shown_as_written() -> None:
    assert show_key(("finder", "search", "exclude_list", 0)) == "finder.search.exclude_list[0]"
    assert show_key(()) == ""
    assert show_key(("a\nb",)) == r"a\x0ab"


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_document_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp(), content)
    try:
        assert isinstance(read(path), Document)
    except ConfigError as error:
        assert len(error.problems) == 1
        assert error.problems[0].isprintable()


@given(st.text(alphabet="ab:-[]{}&*!?|>'\"%@`#,. \n\t1.0<=~", max_size=60))
def test_any_yaml_ends_in_a_document_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: str
) -> None:
    test_any_bytes_end_in_a_document_or_a_clear_error.hypothesis.inner_test(  # type: ignore[attr-defined]
        tmp_path_factory, content.encode()
    )
