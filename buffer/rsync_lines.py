r"""Lines of rsync's logs.

rsync writes a line for each item, ``%i %n%L`` in its own notation::

    2024/01/01 12:00:00 [123] >f+++++++++ raw/a b.fits
    2024/01/01 12:00:00 [123] hf+++++++++ raw/b.fits => raw/a b.fits
    2024/01/01 12:00:00 [123] cd+++++++++ raw/

The same lines without date and process come from ``--out-format='%i %n%L'``.  Bytes that rsync
will not print are written ``\#ooo`` (octal); a backslash that would look like such an escape is
one itself (``\#134#ooo``).
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from buffer.names import escape, why_bad

# A path has at most 4096 bytes, each of which rsync may write as five, and links have two paths.
MAX_LINE_BYTES: Final = 65_536
_MAX_SHOWN: Final = 500
_MAX_OTHER_PATHS: Final = 8

# Date and process twice, if somebody put %t and [%p] into the format of a log that begins with them
# anyway; the process alone is only looked for where it can not be the beginning of a name.
_PREFIX = re.compile(rb"(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?:\[\d+\] )?){1,2}|(?:\[\d+\] )?")

# The item's change letters: nine since rsync 3.0, seven before.  Spelt out, since spaces and
# letters are among them and the name that follows may begin with either.
_ITEM = re.compile(
    rb"(?P<what>[<>ch.])(?P<kind>[fdLDS])(?:"
    rb"(?P<new>\+{9}|\+{7})|\?{9}|\?{7}| {9}| {7}|"
    rb"[.c][.sS][.tT][.p][.o][.g][.unb][.a][.x]|"
    rb"[.c][.sS][.tT][.p][.o][.g][.a]"
    rb") (?P<rest>.+)",
    re.DOTALL,
)
_UNREADABLE_ITEM = re.compile(rb"[<>]f|[ch]f[.+?]")
_DAEMON_ITEM = re.compile(rb"(?:send|recv) \S+ \[[^\]]*\] ")
_ESCAPED_BYTE = re.compile(rb"\\#([0-3][0-7]{2})")

_HARD_LINK = b" => "


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A file that a log says was sent, received or linked.

    Attributes
    ----------
    relpath, filename : `str`
        Where the file is below the storage's root; `buffer.names.why_bad` finds nothing wrong
        with it.
    updated : `bool`
        Whether rsync did not mark the file as new: it existed before and was changed, or (with
        `--link-dest`, `--copy-dest`) was linked to or copied from another tree.
    linked_to : `str` or `None`
        Path of the file that this one was made a hard link to.
    line : `int`
        Number of the line in the log, from 1.
    other_paths : `tuple` [ `str` ]
        Usually empty.  Names may themselves contain ``' => '``; then these are the other paths
        that the line may mean.
    """

    relpath: str
    filename: str
    updated: bool
    linked_to: str | None
    line: int
    other_paths: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Path below the storage's root (`str`)."""
        return f"{self.relpath}/{self.filename}" if self.relpath else self.filename


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that names a file which can not be accepted, or that can not be understood.

    Attributes
    ----------
    line : `int`
        Number of the line in the log, from 1.
    text_escaped : `str`
        The line, safe to show, cut if very long.
    reason : `str`
        What is wrong, for an operator.
    """

    line: int
    text_escaped: str
    reason: str


def parse_line(raw: bytes, line: int, seen: Container[str] = ()) -> LogEntry | BadLine | None:
    """Understand one line of a log, whatever is in it.

    Parameters
    ----------
    raw : `bytes`
        The line without its end.
    line : `int`
        Its number, for the result.
    seen : `~collections.abc.Container` [ `str` ]
        Paths of entries before it: the target of a hard link is usually one of them, which tells
        where an ambiguous line is to be cut.

    Returns
    -------
    parsed : `LogEntry`, `BadLine` or `None`
        `None` for lines that name no file that has arrived: directories, symbolic links,
        devices, files that were only looked at, deletions, messages and totals.
    """
    body = raw[_PREFIX.match(raw).end() :]  # type: ignore[union-attr]  # matches anything
    item = _ITEM.fullmatch(body) if len(raw) < MAX_LINE_BYTES else None
    if item is None:
        if (reason := _why_unreadable(raw, body)) is None:
            return None
        return _bad(raw, line, reason)
    if item["kind"] != b"f" or item["what"] == b".":
        return None
    updated = item["new"] is None
    if item["what"] == b"h":
        return _parse_link(raw, item["rest"], updated, line, seen)
    path = _decode(item["rest"])
    if (reason := _why_bad_path(path)) is not None:
        return _bad(raw, line, reason)
    return LogEntry(*_split(path), updated, None, line)


def _parse_link(
    raw: bytes, rest: bytes, updated: bool, line: int, seen: Container[str]
) -> LogEntry | BadLine:
    """Understand ``name => target``, where both may have arrows of their own.

    Without any arrow the file was linked to one outside of the transfer (`--link-dest`).
    """
    readings: list[tuple[str, str | None]] = []
    cut = rest.find(_HARD_LINK)
    while cut != -1 and len(readings) <= _MAX_OTHER_PATHS:
        target = _decode(rest[cut + len(_HARD_LINK) :])
        readings.append((_decode(rest[:cut]), target if _why_bad_path(target) is None else None))
        cut = rest.find(_HARD_LINK, cut + 1)
    readings.append((_decode(rest), None))
    good = [reading for reading in readings if _why_bad_path(reading[0]) is None]
    if not good:
        return _bad(raw, line, _why_bad_path(readings[0][0]) or "")
    path, linked_to = next((r for r in good if r[1] is not None and r[1] in seen), good[0])
    # One arrow of a new file is plain enough: files linked by --link-dest are not marked as new.
    ambiguous = len(readings) > 2 or updated
    others = [other for other, _ in good if other != path] if ambiguous else []
    return LogEntry(*_split(path), updated, linked_to, line, tuple(others))


def _why_unreadable(raw: bytes, body: bytes) -> str | None:
    """Tell why a line that is no item should be one; most are messages and need no mention."""
    if _UNREADABLE_ITEM.match(body):
        if len(raw) >= MAX_LINE_BYTES:
            return f"the line has {MAX_LINE_BYTES} bytes or more"
        return "it looks like a transferred file but is not '%i %n%L'; check rsync's log format"
    if _DAEMON_ITEM.match(body):
        return "it is in the rsync daemon's own format; set 'log format = %i %n%L' in rsyncd.conf"
    return None


def _decode(name: bytes) -> str:
    name = _ESCAPED_BYTE.sub(lambda match: bytes((int(match[1], 8),)), name)
    return name.decode("utf-8", "surrogateescape")


def _split(path: str) -> tuple[str, str]:
    relpath, _, filename = path.rpartition("/")
    return relpath, filename


def _why_bad_path(path: str) -> str | None:
    # Splitting would take the slash away from /name.
    if path.startswith("/"):
        return "the path is absolute; with --relative, rsync needs SOURCE/./ before what it sends"
    return why_bad(*_split(path))


def _bad(raw: bytes, line: int, reason: str) -> BadLine:
    shown = escape(raw[:_MAX_SHOWN])
    return BadLine(line, shown + "..." if len(raw) > _MAX_SHOWN else shown, reason)
