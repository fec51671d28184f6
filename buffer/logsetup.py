"""Where log records go, and how they are kept to one line and free of secrets.

Records hold file names and messages of other programs, so control characters are escaped here
once more, whatever the caller did: no record can break a line or forge another one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler, TimedRotatingFileHandler, WatchedFileHandler
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from buffer.names import escape
from buffer.problems import ConfigError
from buffer.redaction import redact

if TYPE_CHECKING:
    from buffer.sections import Logging

DEFAULT_FORMAT = "%(asctime)s:%(name)s:%(levelname)s:%(message)s"

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def one_line(text: str) -> str:
    """Escape everything that is not printable, line ends included.

    Unlike `buffer.names.escape` the backslash stays, because names are escaped already.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escape(char) for char in text)


class LineFormatter(logging.Formatter):
    """Formats a record as one line, in UTC; a traceback follows indented, in lines of its own."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        # Another handler may have left its own text of the traceback in the record.
        kept, record.exc_text = record.exc_text, None
        try:
            return redact(super().format(record))
        finally:
            record.exc_text = kept

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    # Only \n ends a line here: an exception's text may hold any of the others.
    return "\n".join(f"    {one_line(line)}" for line in text.split("\n"))


class HideSecrets(logging.Filter):
    """Hides passwords in every record that passes, whoever made it."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:
            # A record whose arguments do not fit its message must not be printed raw either.
            message = f"{record.msg!s} {record.args!r} (message and arguments do not fit)"
            record.msg, record.args = redact(message), ()
            return True
        hidden = redact(message)
        if hidden != message:
            record.msg, record.args = hidden, ()
        return True


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to standard error as it is at the time, which tests and daemons replace."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Shared(logging.FileHandler):
    """A file that several processes write to and any of them rotates.

    Each of a command's processes has its handler. The one that rotates holds a lock; the others
    notice that the name has become another file, and go on in that one.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._follow()
        except OSError:
            self.handleError(record)
            return
        super().emit(record)

    def doRollover(self) -> None:
        with self._lock_file():
            if not self._follow():
                super().doRollover()  # type: ignore[misc]

    def _follow(self) -> bool:
        """Reopen the file if its name has become another file, and tell if it had."""
        if self.stream is None:
            return False
        ours = os.fstat(self.stream.fileno())
        try:
            named = os.stat(self.baseFilename)
        except FileNotFoundError:
            named = None
        if named is not None and (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
            return False
        self.stream.close()
        self.stream = self._open()
        self._followed()
        return True

    def _followed(self) -> None:
        """Adapt to a file that another process has begun."""

    @contextmanager
    def _lock_file(self) -> Iterator[None]:
        descriptor = os.open(f"{self.baseFilename}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class _BySize(_Shared, RotatingFileHandler):
    pass


class _ByTime(_Shared, TimedRotatingFileHandler):
    def _followed(self) -> None:
        self.rolloverAt = self.computeRollover(int(time.time()))


def standard_error() -> logging.Handler:
    """Make the handler of the web server, and of commands until they call `setup`."""
    return _prepared(_StandardError(), DEFAULT_FORMAT)


def setup(section: Logging) -> None:
    """Send this process's log records, and those of its children, where the section says.

    Parameters
    ----------
    section : `buffer.sections.Logging`
        The ``logging`` section of a component's YAML file.

    Raises
    ------
    ConfigError
        The log file cannot be written to.
    """
    try:
        handler = _prepared(_handler(section), section.format)
    except OSError as error:
        assert section.file is not None
        raise ConfigError(
            f"logging.file: {escape(section.file)} cannot be written to: {error.strerror}"
        ) from None
    root = logging.getLogger()
    for old in root.handlers[:]:
        if getattr(old, "_of_component", False):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(section.level.value)
    logging.captureWarnings(True)
    _take_over("django-q")


def _prepared(handler: logging.Handler, format_: str) -> logging.Handler:
    handler.setFormatter(LineFormatter(format_))
    handler.addFilter(HideSecrets())
    handler._of_component = True  # type: ignore[attr-defined]
    return handler


def _take_over(name: str) -> None:
    """Make a library's logger use our handler only: its own would show secrets and raw names."""
    logger = logging.getLogger(name)
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
    logger.propagate = True


def _handler(section: Logging) -> logging.Handler:
    if section.file is None:
        return _StandardError()
    file = os.fspath(section.file)
    # A name that is no UTF-8 must not make a record vanish.
    text: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}
    if section.rotate is None:
        # Reopens the file when logrotate or an operator moved it.
        return WatchedFileHandler(file, **text)
    if section.rotate.value == "SIZE":
        return _BySize(file, maxBytes=section.maxbytes, backupCount=section.backup_count, **text)
    return _ByTime(
        file,
        when=section.when,
        interval=section.interval,
        backupCount=section.backup_count,
        utc=True,
        **text,
    )


def check(section: Logging) -> list[str]:
    """Tell why the log file could not be written to; nothing is made or opened.

    Returns
    -------
    problems : `list` [`str`]
        Lines that begin with the key; empty if all is well.
    """
    if section.file is None:
        return []
    shown = escape(section.file)
    if section.file.is_dir():
        return [f"logging.file: {shown} is a directory: give the name of a file"]
    directory = section.file.parent
    if not directory.is_dir():
        return [f"logging.file: there is no directory {escape(directory)}: make it"]
    target = section.file if section.file.exists() else directory
    if not os.access(target, os.W_OK):
        return [f"logging.file: {shown} cannot be written to by this user"]
    return []
