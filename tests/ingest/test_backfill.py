"""Recording what was in storage: the domain, in one process."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from buffer import storages
from buffer.components import Heartbeat
from buffer.hashing import ALGORITHMS
from buffer.models import ComponentKind, File, Refusal, RefusalReason, Storage
from buffer.storages import NotMounted
from buffer.trees import Tree
from ingest import backfill, backfill_files, transitions
from ingest.backfill import BackfillRun, Recorder
from ingest.backfill_files import Stopped
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.statuses import Status
from tests.plans import plans_of

MakeFile = Callable[..., File]


@pytest.fixture
def root(storage: Storage) -> Path:
    """The storage area, marked."""
    storages.register(storage.name, Path(storage.root), fsync=False)
    return Path(storage.root)


@pytest.fixture
def recorder(ingester: Ingester, root: Path) -> Recorder:
    return make_recorder(ingester)


def make_recorder(ingester: Ingester, **fields: Any) -> Recorder:
    defaults: dict[str, Any] = {
        "storage_id": ingester.storage_id,
        "ingester_id": ingester.pk,
        "root": ingester.storage.root,
        "fresh_target": False,
        "began_on": timezone.now(),
    }
    return Recorder(BackfillRun(**{**defaults, **fields}))


def put(root: Path, path: str, content: bytes = b"content") -> str:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)
    return path


@pytest.fixture
def stored(make_file: MakeFile) -> MakeFile:
    """Make a stored file with the checksum that it has."""

    def make(content: bytes, **fields: Any) -> File:
        checksum = ALGORITHMS["blake3"](content).hexdigest()
        return make_file(content=content, checksum=checksum, **fields)

    return make


def counts(recorder: Recorder, *paths: str) -> dict[str, int]:
    receipts: list[Counter[str]] = []
    counters = recorder.record(paths, receipts.append)
    assert receipts == [counters]
    assert counters["added"] + counters["tracked"] + counters["failed"] == len(paths)
    return {kind: count for kind, count in counters.items() if count}


def status(file: File, ingester: Ingester) -> str | None:
    """Current status, checked against the newest event."""
    row = Ingestion.objects.filter(file=file, ingester=ingester).first()
    newest = FileEvent.objects.filter(file=file, ingester=ingester).order_by("id").last()
    assert (row and row.last_event_id) == (newest and newest.pk)
    assert (row and row.status) == (newest and newest.status)
    return row.status if row else None


def refusal(root: Path) -> tuple[str, str]:
    row = Refusal.objects.unresolved().get()
    assert row.source == str(root)
    return row.path, row.reason


def test_files_are_recorded(recorder: Recorder, ingester: Ingester, root: Path) -> None:
    put(root, "2020-12-31/raw/a.fits", b"some")
    put(root, "2020-12-31/raw/a.json", b"")
    put(root, "tôp 1.fits", b"more")
    paths = ["2020-12-31/raw/a.fits", "2020-12-31/raw/a.json", "tôp 1.fits"]
    before = timezone.now()
    assert counts(recorder, *paths) == {"added": 3}
    for path in paths:
        file = File.objects.get(filename=path.rpartition("/")[2])
        content = (root / path).read_bytes()
        assert file.path == path
        assert file.checksum == ALGORITHMS[file.checksum_algorithm](content).hexdigest()
        assert file.size_bytes == len(content)
        assert file.stored_on is not None
        assert before <= file.stored_on <= timezone.now()
        assert (file.source, file.source_identity, file.seen_on) == (None, None, None)
        assert status(file, ingester) == Status.BACKFILL
        event = FileEvent.objects.get(file=file)
        assert event.worker.endswith(f":{os.getpid()}")


def test_again_they_are_tracked(recorder: Recorder, root: Path) -> None:
    paths = [put(root, f"{n}") for n in range(3)]
    assert counts(recorder, *paths) == {"added": 3}
    assert counts(recorder, *paths, put(root, "3")) == {"tracked": 3, "added": 1}
    assert (File.objects.count(), FileEvent.objects.count()) == (4, 4)


def test_equal_files_are_all_recorded(recorder: Recorder, root: Path) -> None:
    paths = [put(root, path, b"same") for path in ("a/x.fits", "b/x.fits", "b/y.fits")]
    assert counts(recorder, *paths) == {"added": 3}


def test_row_and_status_appear_together(
    recorder: Recorder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(root, "a.fits")

    def fail(*_: object, **__: object) -> list[int]:
        assert File.objects.count() == 1
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(transitions, "create", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            counts(recorder, path)
    assert not File.objects.exists()
    with pytest.raises(RuntimeError, match="power cut"):
        recorder.record([path], fail)
    assert not File.objects.exists()
    assert not FileEvent.objects.exists()
    assert counts(recorder, path) == {"added": 1}


def test_bad_files_do_not_stop_the_others(
    recorder: Recorder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = put(root, "good.fits")
    put(root, "forbidden.fits")
    os.mkfifo(root / "fifo")
    (root / "link").symlink_to(good)
    (root / "directory").mkdir()
    control, bytes_ = "two\nlines", os.fsdecode(b"\xff.fits")
    for name in (control, bytes_):
        put(root, name)
    open_file = Tree.open_file

    def refuse(tree: Tree, relpath: str, filename: str) -> int:
        if filename == "forbidden.fits":
            raise PermissionError(13, "Permission denied")
        return open_file(tree, relpath, filename)

    monkeypatch.setattr(Tree, "open_file", refuse)
    bad = ["forbidden.fits", "fifo", "link", "link/x", "directory", control, bytes_, "gone.fits"]
    assert counts(recorder, *bad[:4], good, *bad[4:]) == {"added": 1, "failed": 8}
    reasons = dict(Refusal.objects.unresolved().values_list("path", "reason"))
    assert reasons == {
        "forbidden.fits": RefusalReason.UNREADABLE,
        "fifo": RefusalReason.NOT_REGULAR,
        "link": RefusalReason.NOT_REGULAR,
        "link/x": RefusalReason.NOT_REGULAR,
        "directory": RefusalReason.UNREADABLE,
        r"two\x0alines": RefusalReason.BAD_NAME,
        r"\udcff.fits": RefusalReason.BAD_NAME,
        "gone.fits": RefusalReason.VANISHED,
    }
    assert File.objects.get().path == good


def test_a_refusal_is_closed_when_the_file_is_recorded(recorder: Recorder, root: Path) -> None:
    assert counts(recorder, "a.fits") == {"failed": 1}
    assert refusal(root) == ("a.fits", RefusalReason.VANISHED)
    put(root, "a.fits")
    assert counts(recorder, "a.fits") == {"added": 1}
    assert not Refusal.objects.unresolved().exists()


@pytest.mark.parametrize("content", [b"longer than before", b"CONTENT"])
def test_a_tracked_file_that_changed(
    recorder: Recorder, ingester: Ingester, root: Path, content: bytes
) -> None:
    path = put(root, "a.fits", b"content")
    assert counts(recorder, path) == {"added": 1}
    time.sleep(0.05)  # the kernel's times are coarse
    put(root, "a.fits", content)
    assert counts(recorder, path) == {"failed": 1}
    assert refusal(root) == ("a.fits", RefusalReason.CHANGED_IN_STORAGE)
    file = File.objects.get()
    assert Refusal.objects.get().file == file
    assert file.size_bytes == 7
    assert status(file, ingester) == Status.BACKFILL
    # Put back as it was, all is well again.
    put(root, "a.fits", b"content")
    assert counts(recorder, path) == {"tracked": 1}
    assert not Refusal.objects.unresolved().exists()


def test_tracked_files_are_not_read_again(
    recorder: Recorder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(root, "a.fits")
    time.sleep(0.05)  # the kernel's times are coarse
    assert counts(recorder, path) == {"added": 1}

    def read(*_: object) -> str:
        raise AssertionError("it was read")

    monkeypatch.setattr(backfill_files, "_checksum", read)
    assert counts(recorder, path) == {"tracked": 1}


def test_a_tracked_file_that_is_gone(recorder: Recorder, root: Path, make_file: MakeFile) -> None:
    assert counts(recorder, make_file().path) == {"failed": 1}
    assert refusal(root)[1] == RefusalReason.VANISHED


def test_files_of_another_target_are_taken_over(
    recorder: Recorder, root: Path, ingester: Ingester
) -> None:
    path = put(root, "a.fits")
    assert counts(recorder, path) == {"added": 1}
    other = Ingester.objects.create(name="other_events", storage=ingester.storage)
    second = make_recorder(other)
    assert counts(second, path) == {"tracked": 1, "taken_over": 1}
    assert counts(second, path) == {"tracked": 1}
    assert status(File.objects.get(), other) == Status.BACKFILL
    assert status(File.objects.get(), ingester) == Status.BACKFILL


@pytest.mark.parametrize("known", [Status.UNTRIED, Status.SUCCESS, Status.RERUN])
def test_what_the_ingester_knows_is_left_as_it_is(
    recorder: Recorder, root: Path, ingester: Ingester, stored: MakeFile, known: Status
) -> None:
    file = stored(b"x")
    transitions.create(ingester.pk, [file.pk], known)
    assert counts(recorder, file.path) == {"tracked": 1}
    assert status(file, ingester) == known


def test_what_a_finder_took_in_stays_new(root: Path, ingester: Ingester, stored: MakeFile) -> None:
    now = timezone.now()
    waiting = stored(b"a", seen_on=now, stored_on=now - timedelta(hours=1))
    arriving = stored(b"b", seen_on=now, stored_on=now + timedelta(seconds=5))
    intent = stored(b"c", seen_on=now, stored_on=None)
    paths = [waiting.path, arriving.path, intent.path]
    # The ingester runs, or has run: it will open them.
    assert counts(make_recorder(ingester), *paths) == {"tracked": 3}
    # It never did: what was there when the backfill began came before it.
    fresh = make_recorder(ingester, fresh_target=True, began_on=now)
    assert counts(fresh, *paths) == {"tracked": 3, "taken_over": 1}
    assert [status(f, ingester) for f in (waiting, arriving, intent)] == [
        Status.BACKFILL,
        None,
        None,
    ]


def test_a_race_for_the_same_files_is_lost_in_peace(
    recorder: Recorder, root: Path, ingester: Ingester, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [put(root, f"{n}.fits") for n in range(3)]
    assert counts(recorder, paths[1]) == {"added": 1}
    look_up, calls = backfill.look_up, iter(range(10))

    def blind_at_first(*arguments: Any) -> Any:
        return {} if next(calls) == 0 else look_up(*arguments)

    monkeypatch.setattr(backfill, "look_up", blind_at_first)
    # Within a test's transaction only a savepoint can be rolled back; that is what atomic() does.
    assert counts(recorder, *paths) == {"added": 2, "tracked": 1}
    assert Counter(Ingestion.objects.values_list("status", flat=True)) == {Status.BACKFILL: 3}
    monkeypatch.setattr(backfill, "look_up", lambda *_: {})
    with pytest.raises(backfill.Overtaken):
        counts(recorder, *paths)


def test_a_file_that_is_being_written(
    recorder: Recorder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(root, "a.fits")
    checksum = backfill_files._checksum

    def grow(descriptor: int, algorithm: str) -> str:
        put(root, path, b"longer content")
        return checksum(descriptor, algorithm)

    monkeypatch.setattr(backfill_files, "_checksum", grow)
    assert counts(recorder, path) == {"failed": 1}
    assert "somebody still writes it" in Refusal.objects.get().detail


def test_a_failing_medium(recorder: Recorder, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [put(root, f"{n}.fits") for n in range(2)]
    checksum, calls = backfill_files._checksum, iter(range(10))

    def fail_first(descriptor: int, algorithm: str) -> str:
        if next(calls) == 0:
            raise OSError(5, "Input/output error")
        return checksum(descriptor, algorithm)

    monkeypatch.setattr(backfill_files, "_checksum", fail_first)
    assert counts(recorder, *paths) == {"added": 1, "failed": 1}
    assert refusal(root) == ("0.fits", RefusalReason.EIO)


def test_a_stop_in_the_middle_writes_nothing(
    recorder: Recorder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [put(root, f"{n}.fits") for n in range(2)]
    answers = iter([False, False, True])
    monkeypatch.setattr(backfill_files, "stopping", lambda: next(answers))
    with pytest.raises(Stopped):
        counts(recorder, *paths)
    assert not File.objects.exists()


def test_a_storage_that_is_not_mounted(recorder: Recorder, root: Path) -> None:
    path = put(root, "a.fits")
    (root / ".endpoint-storage").unlink()
    with pytest.raises(NotMounted):
        counts(recorder, path)


@pytest.mark.django_db
def test_the_run_survives_its_row() -> None:
    run = BackfillRun(1, 2, "/data/storage", True, timezone.now())
    heartbeat = Heartbeat.begin(ComponentKind.BACKFILL, "x", settings=run.settings())
    assert BackfillRun.load(heartbeat.id) == run


@pytest.mark.skipif("postgres" in connection.vendor, reason="its planner goes by sizes")
def test_files_are_looked_up_by_their_places(recorder: Recorder, root: Path) -> None:
    """Else each chunk would cost as much as there are files in the storage."""
    with plans_of("json_each") as plans:
        backfill.look_up(1, 1, ["2020/a.fits"])
    (plan,) = plans
    assert "(storage_id=? AND relpath=? AND filename=?)" in plan
