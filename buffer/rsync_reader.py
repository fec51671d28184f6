"""Reading rsync's logs, part by part."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass
from typing import BinaryIO, Final

from buffer.names import escape
from buffer.rsync_lines import MAX_LINE_BYTES, BadLine, LogEntry, parse_line
from buffer.rsync_logs import RsyncLog, open_regular

logger = logging.getLogger(__name__)

MAX_LINES: Final = 10_000
"""Lines that one `LogPart` covers: bounds the memory."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """What some consecutive lines of a log say.

    Attributes
    ----------
    entries : `list` [ `LogEntry` ]
        Files, in the log's order; one may be named more than once.
    bad_lines : `list` [ `BadLine` ]
        Refused lines.
    start_offset, end_offset : `int`
        Bytes of the log before and after these lines.  ``start_offset`` is 0 instead of the
        asked one if the log was replaced since.
    start_line, end_line : `int`
        Numbers of the last line before these, and of the last one covered.
    more : `bool`
        Whether to read on from ``end_offset``.
    unfinished : `int`
        Bytes of a last line without its end, not covered; 0 while ``more`` is true.
    """

    entries: list[LogEntry]
    bad_lines: list[BadLine]
    start_offset: int
    end_offset: int
    start_line: int
    end_line: int
    more: bool
    unfinished: int


def read_log(
    log: RsyncLog, offset: int = 0, *, line: int | None = None, max_lines: int = MAX_LINES
) -> LogPart:
    """Read some lines of a log.

    Parameters
    ----------
    log : `RsyncLog`
        The log.  It is read up to the size that it had when it was found.
    offset : `int`
        Where to begin: 0, the `done_offset`, or the ``end_offset`` of the part before.
    line : `int`, optional
        Number of lines before ``offset`` (the ``end_line`` of the part before).  If it is not
        given, they are counted.
    max_lines : `int`
        How many lines to read at most.

    Returns
    -------
    part : `LogPart`
        What the lines say.  A last line without its end is left for when it is complete.

    Raises
    ------
    OSError
        If the log can not be read, or is not the file any more that was found.
    """
    with open(open_regular(log.path), "rb") as file:
        st = os.fstat(file.fileno())
        if (st.st_dev, st.st_ino) != (log.device, log.inode):
            raise OSError(errno.ESTALE, "the log was replaced while it was read", str(log.path))
        if offset and not _is_line_start(file, offset):
            logger.warning(
                "rsync logs: %s was replaced; reading it from its start", escape(log.name)
            )
            offset, line = 0, 0
        if line is None:
            line = _count_lines(file, offset)
        file.seek(offset)
        return _read_part(file, offset, log.size, line, max_lines)


def _is_line_start(file: BinaryIO, offset: int) -> bool:
    file.seek(offset - 1)
    return file.read(1) == b"\n"


def _count_lines(file: BinaryIO, offset: int) -> int:
    file.seek(0)
    count = 0
    while offset > 0 and (block := file.read(min(offset, 1 << 20))):
        count += block.count(b"\n")
        offset -= len(block)
    return count


def _read_part(file: BinaryIO, start: int, size: int, line: int, max_lines: int) -> LogPart:
    entries: list[LogEntry] = []
    bad_lines: list[BadLine] = []
    seen: set[str] = set()
    offset, first = start, line
    for _ in range(max_lines):
        raw, length = _read_line(file, size - offset)
        if raw is None:
            return LogPart(entries, bad_lines, start, offset, first, line, False, length)
        offset += length
        line += 1
        parsed = parse_line(raw, line, seen)
        if isinstance(parsed, BadLine):
            bad_lines.append(parsed)
        elif parsed is not None:
            entries.append(parsed)
            seen.add(parsed.path)
    return LogPart(entries, bad_lines, start, offset, first, line, True, 0)


def _read_line(file: BinaryIO, left: int) -> tuple[bytes | None, int]:
    """Read a line and its length with its end; no line if the end is not there yet."""
    raw = file.readline(min(left, MAX_LINE_BYTES))
    length = len(raw)
    tail = raw
    while not tail.endswith(b"\n"):
        # Of a line of any length only the beginning is kept.
        tail = file.readline(min(left - length, MAX_LINE_BYTES))
        length += len(tail)
        if not tail:
            return None, length
    return raw.removesuffix(b"\n"), length
