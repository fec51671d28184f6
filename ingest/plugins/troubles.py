"""Which errors are about the machine and not about the file, so that another try may succeed."""

from __future__ import annotations

import errno
from collections.abc import Iterator

TRANSIENT_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EDQUOT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENODEV,
        errno.ENOLCK,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ENOTCONN,
        errno.EREMOTEIO,
        errno.EROFS,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""Conditions of the machine, its disks and its network, not of the file."""


def is_machine_trouble(error: BaseException) -> bool:
    """Tell whether a single exception is about memory, a disk or the network.

    Parameters
    ----------
    error : `BaseException`
        What was raised; what led to it is not looked at, see `chain`.

    Returns
    -------
    trouble : `bool`
        `True` if the same file may well be ingested when it is tried again later.
    """
    if isinstance(error, ConnectionError | TimeoutError | MemoryError):
        return True
    return isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that led to it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
