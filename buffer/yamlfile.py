"""Reading a YAML file strictly, with the line of every key.

Only what a configuration needs: mappings, lists and plain values. Aliases, tags, merge keys and
duplicate keys are errors, because each of them makes a file mean something else than it seems to.
"""

from __future__ import annotations

import codecs
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from buffer.names import escape
from buffer.problems import ConfigError, Problem
from buffer.redaction import HIDDEN, redact, redact_slip

MAX_BYTES = 1_000_000
MAX_DEPTH = 30

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """What a YAML file says."""

    path: str
    data: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """Line, from 1, of each key and list item."""
    problems: tuple[Problem, ...] = ()
    """Errors that leave the rest of the file readable."""
    unread: frozenset[str] = frozenset()
    """Keys with a value that could not be read; they hold `None`."""

    def line(self, key: KeyPath) -> int:
        """Find the line of a key, or of the nearest key above it; 0 if there is none."""
        while key:
            if key in self.lines:
                return self.lines[key]
            key = key[:-1]
        return 0


def show_key(key: KeyPath) -> str:
    """Write the path of a key as an operator would: ``finder.search.exclude_list[0]``."""
    shown = ""
    for part in key:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            # No key has an @, but the rest of a URL that a slip has cut has one: after a password.
            _, at, after = part.rpartition("@")
            shown += ("." if shown else "") + escape(redact(f"{HIDDEN}@{after}" if at else part))
    return shown


def read(path: str | os.PathLike[str]) -> Document:
    """Read a YAML file.

    Dates and times stay the text that they were written as.

    Parameters
    ----------
    path : `str` or `os.PathLike`
        A regular file of at most 1 MB: UTF-8, or UTF-16 with a byte-order mark.

    Returns
    -------
    document : `Document`
        The file's mapping. Its ``problems`` have to be reported too.

    Raises
    ------
    ConfigError
        The file cannot be read, or is not one YAML mapping.
    """
    shown = os.fspath(path)
    try:
        text = _text(_bytes(shown))
        node = _compose(text)
    except _NotReadableError as error:
        raise ConfigError(error.problem.show(shown)) from None
    if node is None:
        raise ConfigError(Problem(0, "", "is empty: expected keys and values").show(shown))
    if not isinstance(node, MappingNode):
        kind = "a list" if isinstance(node, SequenceNode) else "a single value"
        line = _line(node)
        raise ConfigError(Problem(line, "", f"expected keys and values, got {kind}").show(shown))
    builder = _Builder()
    data = builder.value(node, ())
    return Document(shown, data, builder.lines, tuple(builder.problems), frozenset(builder.unread))


class _NotReadableError(Exception):
    def __init__(self, text: str, line: int = 0) -> None:
        self.problem = Problem(line, "", text)
        super().__init__(text)


def _bytes(path: str) -> bytes:
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _NotReadableError(f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise _NotReadableError("cannot be read: its name holds a NUL character") from None
    raw = b""
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise _NotReadableError("is a directory: expected a YAML file")
        if not stat.S_ISREG(mode):
            raise _NotReadableError("is not a regular file: expected a YAML file")
        while len(raw) <= MAX_BYTES and (more := os.read(descriptor, MAX_BYTES + 1 - len(raw))):
            raw += more
    except OSError as error:
        raise _NotReadableError(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(raw) > MAX_BYTES:
        raise _NotReadableError("is larger than 1 MB: this cannot be a configuration file")
    return raw


def _text(raw: bytes) -> str:
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if wide else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = 0 if wide else raw.count(b"\n", 0, error.start) + 1
        raise _NotReadableError("is not a text file in UTF-8", line) from None
    if "\0" in text:
        raise _NotReadableError("is a binary file: expected a YAML file in UTF-8")
    return text


class _Composer(yaml.SafeLoader):
    """PyYAML's loader that composes nodes only, and no deeper than a configuration can be."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event: yaml.events.Event = self.peek_event()  # type: ignore[no-untyped-call]
        line = _line(event)
        if isinstance(event, yaml.events.AliasEvent):
            raise _NotReadableError(f"aliases (*name) are not supported{_quote('*')}", line)
        if getattr(event, "anchor", None) is not None:
            raise _NotReadableError(f"anchors (&name) are not supported{_quote('&')}", line)
        if (tag := getattr(event, "tag", None)) is not None:
            tag = escape(redact_slip(tag.replace(_TAG, "!!")))[:40]
            raise _NotReadableError(f"tags ({tag}) are not supported{_quote('!')}", line)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _NotReadableError(f"is nested more than {MAX_DEPTH} levels deep", line)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _line(of: yaml.events.Event | Node) -> int:
    return of.start_mark.line + 1 if of.start_mark else 0


def _quote(first: str) -> str:
    return f"; put text that begins with {first} in quotes"


def _compose(text: str) -> Node | None:
    try:
        loader = _Composer(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, max(error.position, 0)) + 1
        raise _NotReadableError(
            f"holds the control character {escape(chr(_code(error.character)))}", line
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # The snippet of PyYAML's message is left out: it may be the line with the password.
        what = ", ".join(part for part in (error.context, error.problem) if part)
        what = "".join(char if char.isprintable() else escape(char) for char in redact(what))
        hint = _quote("*") if "alias" in what else _quote("&") if "anchor" in what else ""
        line = mark.line + 1 if mark else 0
        raise _NotReadableError(f"is not valid YAML: {what}{hint}", line) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _NotReadableError(f"is not valid YAML: {type(error).__name__}") from None


def _code(character: int | str | bytes) -> int:
    return character if isinstance(character, int) else ord(character)


class _Builder:
    """Makes values of nodes; notes lines and problems."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self.unread: set[str] = set()
        self._scalars = yaml.constructor.SafeConstructor()

    def value(self, node: Node, key: KeyPath) -> Any:
        self.lines.setdefault(key, _line(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, key)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*key, at)) for at, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node, key)

    def _mapping(self, node: MappingNode, key: KeyPath) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name_node, value_node in node.value:
            line = _line(name_node)
            if not isinstance(name_node, ScalarNode):
                self._problem(key, line, "a key must be text, not a list or a mapping")
                continue
            name = str(name_node.value)
            inner = (*key, name)
            if name_node.tag == f"{_TAG}merge":
                self._problem(inner, line, "merge keys (<<) are not supported: write the keys out")
                continue
            if name in made:
                first = self.lines[inner]
                self._problem(inner, line, f"is there twice (first in line {first}): remove one")
                continue
            self.lines[inner] = line
            made[name] = self.value(value_node, inner)
        return made

    def _scalar(self, node: ScalarNode, key: KeyPath) -> Any:
        construct = {
            "null": self._scalars.construct_yaml_null,
            "bool": self._scalars.construct_yaml_bool,
            "int": self._scalars.construct_yaml_int,
            "float": self._scalars.construct_yaml_float,
        }.get(node.tag.removeprefix(_TAG))
        if construct is None:
            # Text; dates too: an unquoted 2020-12-31 was meant as the text that it is.
            return node.value
        line = _line(node)
        try:
            made = construct(node)
        except (ValueError, OverflowError):
            # Python refuses integers of more than 4300 digits, and YAML's 0x_ is none.
            self.unread.add(show_key(key))
            self._problem(key, line, "is not a number that can be read: put text in quotes")
            return None
        if isinstance(made, float) and not math.isfinite(made):
            self.unread.add(show_key(key))
            self._problem(key, line, "expected a finite number")
            return None
        return made

    def _problem(self, key: KeyPath, line: int, text: str) -> None:
        self.problems.append(Problem(line, show_key(key), text))
