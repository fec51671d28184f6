"""rsync's logs: a log is done when every file that it names is accounted for, and not before."""

from __future__ import annotations

import errno
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buffer import steps
from buffer.finder import Finder
from buffer.log_search import LogSearch
from buffer.models import File, Refusal, RefusalReason
from tests.buffer.conftest import Ground, cycle

pytestmark = pytest.mark.django_db


class Logs:
    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.day = ground.source / f"{datetime.now(UTC):%Y%m%d}"
        self.day.mkdir()
        self.log = self.day / "rsync.log"

    def write(self, *names: str, item: str = ">f+++++++++", log: str = "rsync.log") -> None:
        with open(self.day / log, "a") as file:
            for name in names:
                file.write(f"2026/11/23 10:00:00 [42] {item} {name}\n")
        os.utime(self.day / log, (time.time() - 10, time.time() - 10))

    def store(self, name: str, content: bytes = b"content") -> Path:
        path = self.ground.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def finder(self, **changes: Any) -> Finder:
        return self.ground.finder(
            actions={"standard": "Noop", "alternative": "Delete"},
            search={"method": "parse_rsync_logs", "delay": 1},
            **changes,
        )

    @property
    def is_done(self) -> bool:
        return (self.day / "rsync.log.done").exists()


@pytest.fixture
def logs(ground: Ground) -> Logs:
    return Logs(ground)


def test_recorded_and_done(logs: Logs) -> None:
    logs.write("d/a.fits", "d/b c.fits")
    logs.store("d/a.fits", b"a")
    logs.store("d/b c.fits", b"b")
    finder = logs.finder()
    assert cycle(finder).done == 2
    assert logs.is_done
    assert cycle(finder).quiet
    assert File.objects.stored().count() == 2


def test_a_file_that_is_not_there_yet(logs: Logs) -> None:
    logs.write("d/a", "d/late")
    logs.store("d/a")
    finder = logs.finder()
    cycle(finder)
    assert cycle(finder).quiet, "a run with --once ends"
    assert not logs.is_done
    assert logs.ground.refusal().reason == RefusalReason.VANISHED
    logs.store("d/late", b"late")
    assert cycle(finder).done == 1
    assert logs.is_done
    assert logs.ground.refusal().resolved_on is not None


def test_after_a_restart_the_late_file_is_still_waited_for(logs: Logs) -> None:
    logs.write("late")
    cycle(logs.finder())
    cycle(logs.finder())
    assert not logs.is_done
    logs.store("late")
    cycle(logs.finder())
    assert logs.is_done and File.objects.get().filename == "late"


def test_recorded_but_the_crash_came_before_its_refusal_was_closed(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.write("late")
    cycle(logs.finder())
    logs.store("late")

    def crash(step: str) -> None:
        if step == "recorded in place":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(steps, "reached", crash)
        with pytest.raises(KeyboardInterrupt):
            cycle(logs.finder())
    assert File.objects.stored().count() == 1
    assert Refusal.objects.unresolved().exists()
    cycle(logs.finder())
    assert logs.is_done
    assert not Refusal.objects.unresolved().exists()


def test_a_log_that_grew(logs: Logs) -> None:
    logs.write("a")
    logs.store("a")
    finder = logs.finder()
    cycle(finder)
    logs.write("b")
    logs.store("b", b"b")
    assert cycle(finder).done == 1
    assert cycle(logs.finder()).quiet


def test_a_line_that_may_mean_two_files(logs: Logs) -> None:
    logs.write("x => y => z", item="hf+++++++++")
    finder = logs.finder()
    cycle(finder)
    assert not logs.is_done
    logs.store("x => y")
    cycle(finder)
    cycle(finder)
    assert File.objects.get().filename == "x => y"
    assert logs.is_done
    assert not Refusal.objects.unresolved().exists()


@pytest.mark.parametrize("same", [True, False])
def test_a_file_that_was_written_again(logs: Logs, same: bool) -> None:
    logs.write("a")
    logs.store("a", b"content")
    finder = logs.finder()
    cycle(finder)
    logs.write("a", item=">f.st......")
    logs.store("a", b"content" if same else b"CONTENT")
    cycle(finder)
    assert logs.is_done
    found = [refusal.reason for refusal in Refusal.objects.all()]
    assert found == ([] if same else [RefusalReason.CHANGED_IN_STORAGE])
    assert File.objects.count() == 1


def test_what_time_may_heal_keeps_the_log_open(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.write("a", "b")
    bad = os.stat(logs.store("a", b"a")).st_ino
    logs.store("b", b"b")
    plain = os.pread

    def read(descriptor: int, *rest: int) -> bytes:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(5, "Input/output error")
        return plain(descriptor, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", read)
        finder = logs.finder()
        cycle(finder)
    assert cycle(finder).quiet
    assert not logs.is_done
    finder._refusals._steady = lambda: time.monotonic() + 1000
    cycle(finder)
    assert logs.is_done
    assert File.objects.count() == 2


def test_lasting_refusals_do_not(logs: Logs) -> None:
    logs.write("link", "../outside", "/etc/passwd", "pipe")
    (logs.ground.root / "link").symlink_to("/etc/passwd")
    os.mkfifo(logs.ground.root / "pipe")
    finder = logs.finder()
    cycle(finder)
    assert logs.is_done
    assert cycle(finder).quiet
    assert sorted(Refusal.objects.values_list("reason", flat=True)) == [
        RefusalReason.BAD_NAME,
        RefusalReason.BAD_NAME,
        RefusalReason.NOT_REGULAR,
        RefusalReason.NOT_REGULAR,
    ]


def test_duplicates_in_storage_are_never_deleted(logs: Logs) -> None:
    logs.write("d/a", "e/a")
    logs.store("d/a")
    logs.store("e/a")
    finder = logs.finder()
    for _ in range(3):
        cycle(finder)
    assert (logs.ground.root / "d/a").exists() and (logs.ground.root / "e/a").exists()
    assert logs.is_done
    assert logs.ground.refusal().reason == RefusalReason.DUPLICATE


def test_an_intent_of_somebody_else_is_no_record(logs: Logs) -> None:
    logs.write("a")
    logs.store("a")
    File.objects.create(
        storage=logs.ground.storage, filename="a", checksum="x", checksum_algorithm="blake3",
        size_bytes=7, source="/somewhere",
    )  # fmt: skip
    finder = logs.finder()
    found = cycle(finder)
    assert not logs.is_done
    assert not found.quiet and found.waiting
    File.objects.all().delete()
    cycle(finder)
    assert logs.is_done


def test_a_log_that_cannot_be_marked_done_is_told_once(
    logs: Logs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logs.write("a")
    logs.store("a")

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("buffer.log_search.rsync_logs.mark_done", refused)
    finder = logs.finder()
    for _ in range(3):
        cycle(finder)
    said = [line for line in caplog.messages if "cannot be marked done" in line]
    assert len(said) == 1 and said[0].endswith("beside it: Permission denied")
    # Whoever deletes it is not asked for it for ever.
    logs.log.unlink()
    monkeypatch.setattr("buffer.log_search._FORGET_AFTER_S", -1.0)
    cycle(finder)
    assert isinstance(finder._search, LogSearch) and not finder._search._progress


def test_a_last_line_that_was_cut_off(logs: Logs) -> None:
    logs.write("a", "b")
    logs.store("a")
    logs.store("b")
    whole = logs.log.read_bytes()
    logs.log.write_bytes(whole[:-2])
    long_ago = time.time() - 7200
    os.utime(logs.log, (long_ago, long_ago))
    finder = logs.finder()
    for _ in range(3):
        cycle(finder)
    refusal = logs.ground.refusal()
    assert refusal.path.endswith("rsync.log:2") and "have it sent again" in refusal.detail
    assert [file.filename for file in File.objects.all()] == ["a"]
    # It goes on after all.
    logs.log.write_bytes(whole)
    os.utime(logs.log, (long_ago, long_ago))
    cycle(finder)
    assert File.objects.count() == 2 and logs.is_done
    assert not Refusal.objects.unresolved().exists()


@pytest.mark.parametrize("restart", [False, True])
def test_what_was_written_on_after_a_cut_is_told(logs: Logs, restart: bool) -> None:
    logs.write("a")
    logs.store("a")
    logs.store("c")
    whole = logs.log.read_bytes()
    long_ago = time.time() - 7200
    # Cut within the letters that say what was done.
    logs.log.write_bytes(whole + b"2026/11/23 10:00:01 [42] >f+++")
    os.utime(logs.log, (long_ago, long_ago))
    finder = logs.finder()
    cycle(finder)
    cut = logs.ground.refusal()
    if restart:
        finder = logs.finder()
    logs.write("b", "c")
    cycle(finder)
    assert sorted(file.filename for file in File.objects.all()) == ["a", "c"]
    (told,) = Refusal.objects.unresolved()
    assert told.path == cut.path and told.detail != cut.detail


def test_a_source_of_logs_that_goes_blocks_the_finder(logs: Logs) -> None:
    finder = logs.finder()
    cycle(finder)
    logs.ground.source.rename(logs.ground.source.with_name("elsewhere"))
    assert "fails" in (cycle(finder).blocked or "")


def test_read_on_after_a_bounded_cycle(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buffer.batches.FILES", 2)
    names = [f"d/{n}" for n in range(7)]
    logs.write(*names)
    for name in names:
        logs.store(name, name.encode())
    finder = logs.finder()
    while not finder.cycle(until=0, stop=lambda: False).complete:
        pass
    assert logs.is_done
    assert File.objects.count() == 7
    assert not Refusal.objects.exists()


def test_excluded_and_temporary_names(logs: Logs) -> None:
    logs.write("a.log", ".b.fits.Ab3dEf", "c.fits")
    logs.store("c.fits")
    finder = logs.ground.finder(
        actions={"standard": "Noop"},
        search={"method": "parse_rsync_logs", "delay": 1, "exclude_list": [r"\.log$"]},
    )
    cycle(finder)
    assert logs.is_done
    assert File.objects.get().filename == "c.fits"
