"""One finder for each source."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from buffer.locking import Locked, lock_source


def test_one_holder(tmp_path: Path) -> None:
    held = lock_source(tmp_path)
    with pytest.raises(Locked, match="another finder is at work on"):
        lock_source(tmp_path)
    os.close(held)
    os.close(lock_source(tmp_path))


def test_a_child_holds_it_too(tmp_path: Path) -> None:
    held = lock_source(tmp_path)
    copy = os.dup(held)
    os.close(held)
    with pytest.raises(Locked):
        lock_source(tmp_path)
    os.close(copy)


def test_where_directories_cannot_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    os.close(lock_source(tmp_path))
    assert "only one finder" in caplog.text
