"""The site's secret key: from the environment, else from a private file made on first use.

django-q2 signs its packages and Django its sessions with this key, so that every host that works
on the same database needs the same one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def secret_key(data_dir: Path) -> str:
    """Read the key from ``data_dir/secret_key``, making the file if it is not there.

    Parameters
    ----------
    data_dir : `pathlib.Path`
        The project's data directory.

    Returns
    -------
    key : `str`
        The key, the same for every process that reads the same file.

    Raises
    ------
    ImproperlyConfigured
        The file is empty or unreadable, or cannot be made.
    """
    path = data_dir / "secret_key"
    try:
        if not path.exists():
            _make(path)
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(
            f"cannot read or make the secret key file {path}: {error}. Set SECRET_KEY, or"
            " ENDPOINT_DATA_DIR to a directory that this user may write to."
        ) from error
    if len(key) < 32:
        raise ImproperlyConfigured(
            f"the secret key in {path} is too short to be one. Remove the file to have a new key"
            " made (sessions end and queued wake-ups are dropped), or set SECRET_KEY."
        )
    return key


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: of two processes that start together, both use the first key.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
