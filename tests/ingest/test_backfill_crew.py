from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from buffer import outages, storages
from buffer.components import Heartbeat
from buffer.models import Component, ComponentKind, File, Storage
from buffer.wakeups import QueueUnavailable
from ingest import backfill_crew, backfill_sessions
from ingest.backfill import BackfillRun, Recorder
from ingest.backfill_crew import Crew, write_receipt
from ingest.backfill_files import Stopped
from ingest.backfill_sources import Candidate
from ingest.models import Ingester

FILES = [Candidate("a.fits", 10), Candidate("b.fits", 5)]


class Queue:
    """Workers that do nothing by themselves."""

    count = 2

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.left, self.at_rest, self.away = 0, 2, False
        self.wakeups = self

    def send(self, *task: Any) -> None:
        if self.away:
            raise QueueUnavailable("away")
        self.sent.append(task)

    def waiting(self) -> int:
        return self.left

    def idle(self) -> int:
        return self.at_rest


@pytest.fixture
def run_id(db: None) -> int:
    return Heartbeat.begin(ComponentKind.BACKFILL, "gen2_file_events").id


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def crew(run_id: int, queue: Queue) -> Crew:
    return Crew(run_id, queue)  # type: ignore[arg-type]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = time.monotonic()

    def go_on(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(backfill_crew.time, "monotonic", lambda: now)
    return go_on


def test_a_chunk_goes_out_and_comes_back(crew: Crew, queue: Queue, run_id: int) -> None:
    assert crew.is_done
    crew.hand_out("some.session", FILES)
    assert queue.sent == [("some.session", run_id, 1, ["a.fits", "b.fits"])]
    assert not crew.is_done
    assert crew.collect() == []
    write_receipt(run_id, 1, {"added": 2})
    [receipt] = crew.collect()
    assert (receipt.counters, receipt.blocked) == ({"added": 2}, "")
    assert (len(receipt.chunk), receipt.chunk.size_bytes) == (2, 15)
    assert crew.is_done
    assert Component.objects.count() == 1


def test_there_is_a_limit_to_what_is_out(crew: Crew) -> None:
    for _ in range(7):
        assert crew.wants_more
        crew.hand_out("some.session", FILES)
    assert not crew.wants_more


def test_a_chunk_that_was_done_twice_counts_once(crew: Crew, run_id: int) -> None:
    crew.hand_out("some.session", FILES)
    write_receipt(run_id, 1, {"added": 2})
    write_receipt(run_id, 1, {"added": 0, "tracked": 2})
    write_receipt(run_id, 77, {"added": 5})
    assert [receipt.counters for receipt in crew.collect()] == [{"added": 2}]


def test_receipts_of_other_runs_are_left_alone(crew: Crew) -> None:
    other = Heartbeat.begin(ComponentKind.BACKFILL, "other_events").id
    crew.hand_out("some.session", FILES)
    write_receipt(other, 1, {"added": 2})
    assert crew.collect() == []
    assert Component.objects.filter(run=other).exists()


def test_lost_chunks_are_sent_again(
    crew: Crew, queue: Queue, later: Callable[[float], None]
) -> None:
    crew.hand_out("some.session", FILES)
    for at_rest, left in [(1, 0), (2, 1)]:
        queue.at_rest, queue.left = at_rest, left
        for _ in range(3):
            crew.send_lost()
            later(10)
    queue.at_rest, queue.left = 2, 0
    crew.send_lost()
    later(1)
    crew.send_lost()
    assert len(queue.sent) == 1
    later(1.5)
    crew.send_lost()
    assert queue.sent[1] == queue.sent[0]


def test_what_is_lost_again_and_again_is_given_up(
    crew: Crew, queue: Queue, later: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    crew.hand_out("some.session", FILES)
    given_up = []
    for _ in range(20):
        given_up += crew.send_lost()
        later(3)
    assert [len(chunk) for chunk in given_up] == [2]
    assert len(queue.sent) == backfill_crew.MOST_TIMES_SENT
    assert crew.is_done
    assert "begins with a.fits; it is given up" in caplog.text


def test_a_broker_that_is_away(crew: Crew, queue: Queue, later: Callable[[float], None]) -> None:
    queue.away = True
    with pytest.raises(QueueUnavailable):
        crew.hand_out("some.session", FILES)
    for _ in range(20):
        later(3)
        try:
            assert crew.send_lost() == []
        except QueueUnavailable:
            continue
    queue.away = False
    for _ in range(2):
        crew.send_lost()
        later(3)
    assert len(queue.sent) == 1


# What the workers do


@pytest.fixture
def session_run(ingester: Ingester, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> int:
    # The connection is the test's transaction, and ids come again after it.
    monkeypatch.setattr(backfill_sessions, "close_old_connections", lambda: None)
    monkeypatch.setattr(backfill_sessions, "_recorders", {})
    storages.register(storage.name, Path(storage.root), fsync=False)
    run = BackfillRun(storage.pk, ingester.pk, storage.root, True, timezone.now())
    return Heartbeat.begin(ComponentKind.BACKFILL, "x", settings=run.settings()).id


def receipts(run_id: int) -> list[tuple[str, dict[str, int], str]]:
    rows = Component.objects.filter(run=run_id).order_by("id")
    return [(row.subject, row.counters, row.message) for row in rows]


def test_a_session_records_and_gives_a_receipt(session_run: int, storage: Storage) -> None:
    (Path(storage.root) / "a.fits").write_text("a")
    backfill_sessions.record_session(session_run, 5, ["a.fits", "gone.fits"])
    counters = {"added": 1, "tracked": 0, "taken_over": 0, "failed": 1}
    assert receipts(session_run) == [("5", counters, "")]
    assert File.objects.get().path == "a.fits"


def test_a_session_tells_why_nothing_can_be_done(
    session_run: int, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(storage.root) / ".endpoint-storage").unlink()
    backfill_sessions.record_session(session_run, 1, ["a.fits"])
    assert "is its file system mounted?" in receipts(session_run)[0][2]

    def fail(*_: object) -> Counter[str]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Recorder, "record", fail)
    backfill_sessions.record_session(session_run, 2, ["a.fits"])
    assert "the storage area fails: the medium" in receipts(session_run)[1][2]


def test_a_session_waits_for_the_database(
    session_run: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record, failures = Recorder.record, iter([True, True, False])
    monkeypatch.setattr(outages, "_since", None)
    monkeypatch.setattr(outages, "connection", connection := Closable())
    monkeypatch.setattr(backfill_sessions, "FIRST_PAUSE_S", 0.01)

    def away_at_first(self: Recorder, *arguments: Any) -> Any:
        if next(failures):
            raise OperationalError("server closed the connection\nunexpectedly")
        return record(self, *arguments)

    monkeypatch.setattr(Recorder, "record", away_at_first)
    with caplog.at_level(logging.WARNING):
        backfill_sessions.record_session(session_run, 1, ["gone.fits"])
    assert len(receipts(session_run)) == 1
    assert connection.closed == 2
    assert "trying again: server closed the connection unexpectedly\n" in caplog.text


class Closable:
    closed = 0

    def close_if_unusable_or_obsolete(self) -> None:
        self.closed += 1


def test_a_session_that_is_stopped_gives_no_receipt(
    session_run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> Counter[str]:
        raise Stopped

    monkeypatch.setattr(Recorder, "record", stop)
    backfill_sessions.record_session(session_run, 1, ["a.fits"])
    monkeypatch.setattr(backfill_sessions, "stopping", lambda: True)
    backfill_sessions.record_session(session_run, 2, ["a.fits"])
    assert receipts(session_run) == []
