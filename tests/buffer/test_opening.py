"""Reading the arrivals of a batch: small ones one after the other, others by a few threads."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buffer import hashing, opening
from buffer.models import File, Refusal, RefusalReason
from tests.buffer.conftest import Ground, cycle
from tests.buffer.test_takein import take_in

pytestmark = pytest.mark.django_db

NAMES = ["a", "bad", "written", "z"]


class Stopped(BaseException):
    """As raised by a signal."""


@pytest.fixture(params=[True, False], ids=["threads", "one by one"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param:
        monkeypatch.setattr(opening, "WORTH_THREADS_BYTES", 0)
    return bool(request.param)


@pytest.fixture
def at_each(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], None]:
    """Have something done, with its name, whenever a file is read."""

    def instead(do: Callable[[str], None]) -> None:
        def checksums(descriptor: int, *arguments: Any, **more: Any) -> dict[str, str]:
            do(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
            return hashing.checksums(descriptor, *arguments, **more)

        monkeypatch.setattr("buffer.reading.checksums", checksums)

    return instead


def still_open(below: Path) -> list[str]:
    links = [os.readlink(entry) for entry in os.scandir("/proc/self/fd") if entry.is_symlink()]
    return [link for link in links if link.startswith(f"{below}/")]


def test_each_file_has_its_own_fate(
    ground: Ground, threads: bool, at_each: Callable[[Callable[[str], None]], None]
) -> None:
    readers = set()

    def do(name: str) -> None:
        readers.add(threading.current_thread() is threading.main_thread())
        if name == "bad":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if name == "written":
            (ground.source / name).write_bytes(b"longer than before")

    for name in NAMES:
        ground.put(name, name.encode())
    at_each(do)
    assert take_in(ground).batch([ground.arrival(name) for name in NAMES]) == {"a", "bad", "z"}
    assert sorted(File.objects.stored().values_list("filename", flat=True)) == ["a", "z"]
    assert Refusal.objects.get().reason == RefusalReason.EIO
    assert (ground.source / "written").read_bytes() == b"longer than before"
    assert readers == {not threads}
    assert still_open(ground.source) == []


def test_a_stop_leaves_nothing_open(
    ground: Ground, threads: bool, at_each: Callable[[Callable[[str], None]], None]
) -> None:
    def do(name: str) -> None:
        if name == "written":
            raise Stopped

    for name in NAMES:
        ground.put(name, name.encode())
    at_each(do)
    with pytest.raises(Stopped):
        take_in(ground).batch([ground.arrival(name) for name in NAMES])
    assert not File.objects.exists()
    assert still_open(ground.source) == []


def test_small_files_are_fetched_before_they_are_read(
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    at_each: Callable[[Callable[[str], None]], None],
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *advice: seen.append(advice[-1]))
    at_each(seen.append)
    for name in NAMES:
        ground.put(name, name.encode())
    assert len(take_in(ground).batch([ground.arrival(name) for name in NAMES])) == len(NAMES)
    assert seen == [os.POSIX_FADV_WILLNEED] * len(NAMES) + NAMES


def test_copies_are_made_by_threads(
    ground: Ground,
    other_file_system: Path,
    at_each: Callable[[Callable[[str], None]], None],
) -> None:
    readers = set()
    at_each(lambda name: readers.add(threading.current_thread() is threading.main_thread()))
    for name in NAMES:
        (other_file_system / name).write_bytes(name.encode())
    cycle(ground.finder(source=str(other_file_system)))
    assert File.objects.stored().count() == len(NAMES)
    assert readers == {False}


def test_a_file_system_that_cannot_be_told_is_read_all_the_same(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*advice: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    ground.put("a", b"a")
    assert take_in(ground).batch([ground.arrival("a")]) == {"a"}
