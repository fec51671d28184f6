"""Finding the logs that rsync has written about what it has put into storage.

The source has a directory ``YYYYMMDD`` for each day, with logs ``rsync*.log`` in it; their lines
are the matter of `buffer.rsync_lines`.

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from buffer import steps
from buffer.names import escape

logger = logging.getLogger(__name__)

OnError = Callable[[str, OSError], None]

_LOG_NAME = re.compile(r"rsync.*\.log", re.DOTALL)


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
        with open(open_regular(log.marker), "rb") as file:
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
        steps.reached("marker begun")
        file.write(b"%d\n" % offset)
        file.flush()
        os.fsync(file.fileno())
    steps.reached("marker written")
    os.replace(temporary, log.marker)
    steps.reached("marker placed")
    directory = os.open(log.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def open_regular(path: Path) -> int:
    """Open a file for reading: no link is followed, and a FIFO neither blocks nor is read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "expected a plain file", str(path))
    return descriptor
