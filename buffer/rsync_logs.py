r"""Finding what rsync has put into storage, by reading its logs.

The source has a directory ``YYYYMMDD`` for each day, with logs ``rsync*.log`` in it.  rsync
writes a line for each item, ``%i %n%L`` in its own notation::

    2024/01/01 12:00:00 [123] >f+++++++++ raw/a b.fits
    2024/01/01 12:00:00 [123] hf+++++++++ raw/b.fits => raw/a b.fits
    2024/01/01 12:00:00 [123] cd+++++++++ raw/

The same lines without date and process come from ``--out-format='%i %n%L'``.  Bytes that rsync
will not print are written ``\#ooo`` (octal); a backslash that would look like such an escape is
one itself (``\#134#ooo``).

rsync logs what it links or copies from another tree (`--link-dest`, `--copy-dest`) only if it is
given `-ii`; without it such files have no line.

A log says which files to look for, not that they are complete.  It is done, and gets a marker
``<log>.done``, only when the caller has accounted for every file that it names.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from buffer.names import escape, why_bad

logger = logging.getLogger(__name__)

OnError = Callable[[str, OSError], None]

MAX_LINES: Final = 10_000
"""Lines that one `LogPart` covers: bounds the memory."""

# A path has at most 4096 bytes, each of which rsync may write as five, and links have two paths.
_MAX_LINE_BYTES: Final = 65_536
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
_LOG_NAME = re.compile(r"rsync.*\.log", re.DOTALL)

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


@dataclass(frozen=True, slots=True)
class RsyncLog:
    """A log as it was when it was found.

    Attributes
    ----------
    path : `~pathlib.Path`
        Where the log is.
    name : `str`
        Path below the source, to be shown escaped.
    device, inode, size, mtime_ns : `int`
        What `os.lstat` told of it; bytes and nanoseconds since 1970.
    """

    path: Path
    name: str
    device: int
    inode: int
    size: int
    mtime_ns: int

    @property
    def marker(self) -> Path:
        """Path of the marker that says how far the log is done (`~pathlib.Path`)."""
        return self.path.with_name(f"{self.path.name}.done")

    @property
    def identity(self) -> str:
        """Changes whenever the log does (`str`)."""
        return f"{self.device}:{self.inode}:{self.size}:{self.mtime_ns}"


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
    end_line : `int`
        Number of the last line covered.
    more : `bool`
        Whether to read on from ``end_offset``.
    unfinished : `int`
        Bytes of a last line without its end, not covered; 0 while ``more`` is true.
    """

    entries: list[LogEntry]
    bad_lines: list[BadLine]
    start_offset: int
    end_offset: int
    end_line: int
    more: bool
    unfinished: int


def find_logs(
    root: Path,
    *,
    date: date | None,
    past_days: int,
    future_days: int,
    delay: float,
    now: datetime | None = None,
    onerror: OnError | None = None,
) -> list[RsyncLog]:
    """Find the logs of some days that rsync has finished with, done ones included.

    Parameters
    ----------
    root : `~pathlib.Path`
        The source: the directory with a directory ``YYYYMMDD`` per day.
    date : `datetime.date` or `None`
        The middle day; `None` means today in UTC, at each call anew.
    past_days, future_days : `int`
        How many days before and after it are looked at too.
    delay : `float`
        Seconds for which a log must not have been modified.
    now : `~datetime.datetime`, optional
        The aware time to go by; default is the present.
    onerror : `~collections.abc.Callable`, optional
        Called with a path below the root (empty for the root) and the `OSError` for what could
        not be looked at or is no plain directory or file.  Default is a warning in the log.

    Returns
    -------
    logs : `list` [ `RsyncLog` ]
        By day, then by name.  Directories below a day's are looked at too; symbolic links are
        not followed.
    """
    now = datetime.now(UTC) if now is None else now
    report = _warn if onerror is None else onerror
    latest_ns = int((now.timestamp() - delay) * 1e9)
    logs: list[RsyncLog] = []
    try:
        os.stat(root)
    except OSError as error:
        report("", error)
        return logs
    for day in _days(now.astimezone(UTC).date() if date is None else date, past_days, future_days):
        _find_logs_of_day(root, f"{day:%Y%m%d}", latest_ns, logs, report)
    return logs


def _warn(path: str, error: OSError) -> None:
    logger.warning(
        "rsync logs: %s: %s", escape(path) or "the source directory", error.strerror or error
    )


def _days(middle: date, past_days: int, future_days: int) -> Iterator[date]:
    for offset in range(-past_days, future_days + 1):
        try:
            yield middle + timedelta(days=offset)
        except OverflowError:
            # Before year 1 or after 9999 there are no logs.
            continue


def _find_logs_of_day(
    root: Path, day: str, latest_ns: int, logs: list[RsyncLog], report: OnError
) -> None:
    try:
        if not stat.S_ISDIR(os.lstat(root / day).st_mode):
            report(day, NotADirectoryError(errno.ENOTDIR, "expected a directory of logs"))
            return
    except FileNotFoundError:
        return
    except OSError as error:
        report(day, error)
        return

    def walk_error(error: OSError) -> None:
        report(os.path.relpath(error.filename, root), error)

    for directory, subdirectories, filenames in os.walk(root / day, onerror=walk_error):
        subdirectories.sort()
        for filename in sorted(filenames):
            if _LOG_NAME.fullmatch(filename) is None:
                continue
            path = Path(directory, filename)
            name = os.path.relpath(path, root)
            try:
                st = os.lstat(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                report(name, error)
                continue
            if not stat.S_ISREG(st.st_mode):
                report(name, OSError(errno.EINVAL, "expected a log, not a link or special file"))
            elif st.st_mtime_ns <= latest_ns:
                logs.append(RsyncLog(path, name, st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns))


def done_offset(log: RsyncLog) -> int:
    """Tell how many bytes of a log are done with, according to its marker.

    Parameters
    ----------
    log : `RsyncLog`
        The log.

    Returns
    -------
    offset : `int`
        Where to read on, in bytes; 0 means from the start.  An empty marker, as the older system
        wrote, covers all of the log unless the log was modified after it.

    Raises
    ------
    OSError
        If there is a marker and it can not be read.
    """
    try:
        with open(_open_regular(log.marker), "rb") as file:
            content = file.read(64)
            written_ns = os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return 0
    if not content.strip():
        return log.size if written_ns >= log.mtime_ns else 0
    if re.fullmatch(rb"[0-9]{1,20}\n?", content) is None:
        logger.warning(
            "rsync logs: %s.done: expected a number of bytes; reading the log from its start",
            escape(log.name),
        )
        return 0
    offset = int(content)
    # A log shorter than what is done with is another log of the same name.
    return offset if offset <= log.size else 0


def is_done(log: RsyncLog) -> bool:
    """Tell if nothing of a log is left to be read.

    Parameters
    ----------
    log : `RsyncLog`
        The log.

    Returns
    -------
    done : `bool`
        Whether its marker covers all its bytes.  An empty log is done without a marker.

    Raises
    ------
    OSError
        If there is a marker and it can not be read.
    """
    return done_offset(log) >= log.size


def mark_done(log: RsyncLog, offset: int) -> None:
    """Record durably that every file named before some offset of a log is accounted for.

    Parameters
    ----------
    log : `RsyncLog`
        The log.
    offset : `int`
        Bytes of the log that are done with: the ``end_offset`` of a part.

    Raises
    ------
    OSError
        If the marker can not be written; the older one, if any, is still there then.
    """
    if offset < 0:
        raise ValueError(f"offset: expected 0 or more bytes, got {offset}")
    # One finder per source: the name needs no random part, and a crash leaves one file at most.
    temporary = log.marker.with_name(f"{log.marker.name}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o644), "wb") as file:
        file.write(b"%d\n" % offset)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, log.marker)
    directory = os.open(log.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


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
    with open(_open_regular(log.path), "rb") as file:
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


def read_parts(log: RsyncLog, offset: int = 0) -> Iterator[LogPart]:
    """Read a log to its end, part by part.

    Parameters
    ----------
    log : `RsyncLog`
        The log.
    offset : `int`
        Where to begin: 0 or the `done_offset`.

    Yields
    ------
    part : `LogPart`
        At least one.

    Raises
    ------
    OSError
        As `read_log`.
    """
    part = read_log(log, offset)
    yield part
    while part.more:
        part = read_log(log, part.end_offset, line=part.end_line)
        yield part


def _open_regular(path: Path) -> int:
    """Open a file for reading: no link is followed, and a FIFO neither blocks nor is read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "expected a plain file", str(path))
    return descriptor


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
    offset = start
    for _ in range(max_lines):
        raw, length = _read_line(file, size - offset)
        if raw is None:
            return LogPart(entries, bad_lines, start, offset, line, False, length)
        offset += length
        line += 1
        parsed = parse_line(raw, line, seen)
        if isinstance(parsed, BadLine):
            bad_lines.append(parsed)
        elif parsed is not None:
            entries.append(parsed)
            seen.add(parsed.path)
    return LogPart(entries, bad_lines, start, offset, line, True, 0)


def _read_line(file: BinaryIO, left: int) -> tuple[bytes | None, int]:
    """Read a line and its length with its end; no line if the end is not there yet."""
    raw = file.readline(min(left, _MAX_LINE_BYTES))
    length = len(raw)
    tail = raw
    while not tail.endswith(b"\n"):
        # Of a line of any length only the beginning is kept.
        tail = file.readline(min(left - length, _MAX_LINE_BYTES))
        length += len(tail)
        if not tail:
            return None, length
    return raw.removesuffix(b"\n"), length


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
    item = _ITEM.fullmatch(body) if len(raw) < _MAX_LINE_BYTES else None
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
        if len(raw) >= _MAX_LINE_BYTES:
            return f"the line has {_MAX_LINE_BYTES} bytes or more"
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
