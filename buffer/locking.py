"""One finder for each source."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from buffer.names import escape

logger = logging.getLogger(__name__)


class Locked(Exception):
    """Another finder is at work on this source."""


def lock_source(source: Path) -> int:
    """Take the lock on a source directory; the kernel frees it when the last holder is gone.

    Workers that are forked from the holder hold it too, so that a finder that is killed keeps
    others out until its worker is gone as well.

    Returns
    -------
    descriptor : `int`
        Keep it open for as long as the lock is needed.

    Raises
    ------
    Locked
        Another process has it.
    """
    descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Locked(
            f"another finder is at work on {escape(source)}: stop it first"
            " (`manage.py status` shows it), or give this one another finder.source"
        ) from None
    except OSError as error:
        # Network file systems may lock no directories.
        logger.warning(
            "%s cannot be locked (%s): see to it that only one finder works on it",
            escape(source),
            error.strerror,
        )
    return descriptor
