"""Which logs there are, and how far each is done."""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from buffer.rsync_logs import done_offset, find_logs, is_done, mark_done
from buffer.rsync_reader import read_log
from tests.buffer.test_rsync_reader import look, make_log, names

NEW = b">f+++++++++ "


NOW = datetime(2024, 3, 1, 0, 30, tzinfo=UTC)


def put_log(root: Path, name: str, age: float = 3600) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(NEW + b"a\n")
    os.utime(path, (NOW.timestamp() - age,) * 2)


def found_names(root: Path, **options: object) -> list[str]:
    given_options = {"date": None, "past_days": 1, "future_days": 1, "delay": 60, "now": NOW}
    return [log.name for log in find_logs(root, **{**given_options, **options})]  # type: ignore[arg-type]


def test_logs_of_the_days_around_the_date(tmp_path: Path) -> None:
    for day in ("20240227", "20240228", "20240229", "20240301", "20240302", "20240303"):
        put_log(tmp_path, f"{day}/rsync.log")
    assert found_names(tmp_path) == [
        "20240229/rsync.log",
        "20240301/rsync.log",
        "20240302/rsync.log",
    ]
    assert found_names(tmp_path, past_days=0, future_days=0) == ["20240301/rsync.log"]
    assert found_names(tmp_path, date=date(2024, 2, 28), past_days=1, future_days=0) == [
        "20240227/rsync.log",
        "20240228/rsync.log",
    ]
    assert len(found_names(tmp_path, past_days=10_000, future_days=10_000)) == 6
    assert found_names(tmp_path, date=date.max, past_days=0) == []


def test_today_is_the_utc_day_of_each_call(tmp_path: Path) -> None:
    put_log(tmp_path, "20240301/rsync.log")
    options = {"past_days": 0, "future_days": 0}
    assert found_names(tmp_path, now=NOW, **options) == ["20240301/rsync.log"]
    assert found_names(tmp_path, now=NOW + timedelta(days=1), **options) == []
    # The day before in Chile is still today in UTC.
    chile = NOW.astimezone(timezone(timedelta(hours=-3)))
    assert chile.day == 29
    assert found_names(tmp_path, now=chile, **options) == ["20240301/rsync.log"]


def test_only_logs_and_only_quiet_ones(tmp_path: Path) -> None:
    for name in ["rsync.log", "rsync-12.log", "sub/rsync_b.log"]:
        put_log(tmp_path, f"20240301/{name}")
    for name in ["rsync.log.done", "rsync.log.done.tmp", "other.log", "rsync.txt", ".rsync.log"]:
        put_log(tmp_path, f"20240301/{name}")
    put_log(tmp_path, "20240301/rsync-busy.log", age=59)
    put_log(tmp_path, "20240301/rsync-quiet.log", age=60)
    assert found_names(tmp_path) == [
        "20240301/rsync-12.log",
        "20240301/rsync-quiet.log",
        "20240301/rsync.log",
        "20240301/sub/rsync_b.log",
    ]


def test_what_is_no_log_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_log(tmp_path, "elsewhere/rsync.log")
    put_log(tmp_path, "20240301/rsync.log")
    os.mkfifo(tmp_path / "20240301" / "rsync-fifo.log")
    os.symlink(tmp_path / "elsewhere/rsync.log", tmp_path / "20240301" / "rsync-link.log")
    os.symlink("elsewhere", tmp_path / "20240302")
    (tmp_path / "20240229").write_text("")
    told: list[str] = []
    assert found_names(tmp_path, onerror=lambda path, error: told.append(path)) == [
        "20240301/rsync.log"
    ]
    assert told == [
        "20240229",
        "20240301/rsync-fifo.log",
        "20240301/rsync-link.log",
        "20240302",
    ]
    assert found_names(tmp_path / "gone") == []
    assert "No such file" in caplog.text


# Done


def test_done_marker(tmp_path: Path) -> None:
    log = make_log(tmp_path, NEW + b"a\n")
    assert not is_done(log)
    mark_done(log, log.size)
    assert log.marker.read_text() == "14\n"
    assert is_done(log)
    with open(log.path, "ab") as file:
        file.write(NEW + b"b\n")
    log = look(log.path)
    assert not is_done(log)
    part = read_log(log, done_offset(log))
    assert [(entry.path, entry.line) for entry in part.entries] == [("b", 2)]
    mark_done(log, part.end_offset)
    assert is_done(log)
    assert sorted(path.name for path in log.path.parent.iterdir()) == [
        "rsync.log",
        "rsync.log.done",
    ]


def test_a_shorter_log_of_the_same_name_is_another_one(tmp_path: Path) -> None:
    log = make_log(tmp_path, NEW + b"a\n" + NEW + b"b\n")
    mark_done(log, log.size)
    log = make_log(tmp_path, NEW + b"c\n")
    assert done_offset(log) == 0
    assert names(read_log(log, done_offset(log))) == ["c"]


def test_the_older_systems_empty_marker(tmp_path: Path) -> None:
    log = make_log(tmp_path, NEW + b"a\n")
    log.marker.touch()
    assert is_done(log)
    later = time.time() + 10
    os.utime(log.path, (later, later))
    log = look(log.path)
    assert not is_done(log)
    assert done_offset(log) == 0
    mark_done(log, log.size)
    assert is_done(log)


@pytest.mark.parametrize("content", ["yes", "-1", "1.5", "٣", "9" * 40, "1\n2\n"])
def test_a_damaged_marker_means_from_the_start(tmp_path: Path, content: str) -> None:
    log = make_log(tmp_path, NEW + b"a\n")
    log.marker.write_text(content)
    assert done_offset(log) == 0


def test_an_empty_log_needs_no_marker(tmp_path: Path) -> None:
    assert is_done(make_log(tmp_path, b""))


def test_a_negative_offset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="offset"):
        mark_done(make_log(tmp_path, b""), -1)


def test_a_marker_is_never_written_through_a_link(tmp_path: Path) -> None:
    log = make_log(tmp_path, NEW + b"a\n")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, f"{log.marker}.tmp")
    with pytest.raises(OSError):
        mark_done(log, log.size)
    os.unlink(f"{log.marker}.tmp")
    os.symlink(victim, log.marker)
    with pytest.raises(OSError):
        is_done(log)
    mark_done(log, log.size)
    assert is_done(log)
    assert victim.read_text() == "precious"
