"""A worker, with a real plugin host: claim, check, attempt, outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone
from pytest_django import Settings

from buffer import operator_pauses, patience, storages
from buffer.models import ComponentKind, File, Storage
from buffer.names import MARKER_NAME
from buffer.operator_pauses import Pausable
from ingest import batch, breaker, claims, pace, pauses, probing, sweeping, transitions
from ingest.checks import StorageUnavailable
from ingest.config import IngesterSection
from ingest.host_errors import IngestRaised
from ingest.ledger import Ledger
from ingest.models import Breaker, FileEvent, Ingester, Ingestion
from ingest.statuses import Status
from ingest.targets import Run
from ingest.transitions import Step
from ingest.worker import TargetUnavailable, Worker

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]
MakeWorker = Callable[..., Worker]
PLUGINS = "tests.ingest.worker_plugins"


@pytest.fixture
def make_worker(ingester: Ingester, settings: Settings) -> Iterator[MakeWorker]:
    """Make a worker for a plugin of the tests', with keys of the ingester section."""
    workers: list[Worker] = []
    stop = {"now": False}

    def make(
        plugin: str = "NullIngest", config: dict[str, Any] | None = None, **keys: Any
    ) -> Worker:
        name = plugin if plugin == "NullIngest" else f"{PLUGINS}.{plugin}"
        settings.INGEST_PLUGINS = [name]
        section = IngesterSection.model_validate(
            {"plugin": {"name": name, "config": config or {}}, **keys}
        )
        run = Run.begin(ingester, section)
        worker = Worker(run, stopping=lambda: stop["now"], beat=lambda: None)
        workers.append(worker)
        return worker

    make.stop = stop  # type: ignore[attr-defined]
    yield make
    for worker in workers:
        worker.close()


@pytest.fixture
def wait_for_me(ingester: Ingester, make_file: MakeFile) -> Callable[..., list[File]]:
    """Make stored files that wait to be tried."""

    def make(*contents: bytes) -> list[File]:
        files = [make_file(content=content) for content in contents]
        transitions.create(ingester.pk, [file.pk for file in files], Status.UNTRIED)
        return files

    return make


def history(file: File) -> list[str]:
    return list(FileEvent.objects.filter(file=file).order_by("id").values_list("status", flat=True))


def past() -> datetime:
    """Give a moment that is past by every clock."""
    return timezone.now() - timedelta(seconds=1)


def drain(worker: Worker) -> int:
    total = 0
    while done := worker.step():
        total += done
    return total


def test_nothing_to_do_loads_no_plugin(make_worker: MakeWorker) -> None:
    worker = make_worker("CannotLoad")
    assert worker.step() == 0


def test_the_way_of_a_file(make_worker: MakeWorker, wait_for_me: Any) -> None:
    files = wait_for_me(b"1", b"2", b"3")
    assert drain(make_worker(batch_size=2)) == 3
    for file in files:
        assert history(file) == ["UNTRIED", "PENDING", "SUCCESS"]
        row = Ingestion.objects.select_related("last_event").get(file=file)
        assert (row.status, row.attempts, row.claim) == (Status.SUCCESS, 1, None)
        assert row.last_event.status == Status.SUCCESS
        assert row.last_event.ingest_ver
        assert row.last_event.duration is not None


def test_writing_outcomes_waits_no_longer_than_the_claim_holds(
    make_worker: MakeWorker, wait_for_me: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that hangs must not keep a worker from its plugin beyond the lease."""
    limits: list[float] = []
    monkeypatch.setattr(Ledger, "flush_if_due", lambda self: limits.append(patience._until))
    wait_for_me(b"1", b"2")
    assert drain(make_worker()) == 2
    assert len(limits) > 2 and max(limits) < time.monotonic() + claims.LEASE_S


def test_it_goes_on_behind_its_last_batch(make_worker: MakeWorker, wait_for_me: Any) -> None:
    files = wait_for_me(b"1", b"2", b"3", b"4")
    worker = make_worker(batch_size=2)
    assert worker.step() == 2
    came_back = Ingestion.objects.filter(file=files[0])
    came_back.update(status=Status.UNTRIED)
    assert worker.step() == 2
    assert came_back.get().status == Status.UNTRIED
    assert drain(worker) == 1


@pytest.fixture
def much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have few files count as far more than all workers have in hand."""
    monkeypatch.setattr(pace, "PLENTY", 0)


@pytest.mark.usefixtures("much_waits")
def test_where_much_waits_several_batches_are_claimed_at_once(
    make_worker: MakeWorker, wait_for_me: Any
) -> None:
    files = wait_for_me(*[b"1"] * 9)
    worker = make_worker("Counts", batch_size=2)
    assert (worker.step(), worker.step(), worker.step()) == (2, 7, 0)
    for file in files:
        assert history(file) == ["UNTRIED", "PENDING", "SUCCESS"]
    notes = FileEvent.objects.filter(status="SUCCESS").order_by("file")
    assert [event.note for event in notes] == ["one of 2"] * 8 + ["one of 1"], "in one call"
    claims_made = FileEvent.objects.filter(status="PENDING").values("claim").distinct()
    assert claims_made.count() == 2


@pytest.mark.usefixtures("much_waits")
@pytest.mark.parametrize("why", ["a pause", "its time", "a stop", "lost"])
def test_what_is_claimed_is_given_back_unless_it_may_be_begun(
    make_worker: MakeWorker,
    wait_for_me: Any,
    ingester: Ingester,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    files = wait_for_me(*[b"1"] * 8)
    worker = make_worker(batch_size=2)
    assert worker.step() == 2

    def reached(step: str) -> None:
        """Have it happen once the next batch has its verdicts."""
        if step != "verdict seen":
            return
        if why == "a pause":
            operator_pauses.pause(Pausable(ComponentKind.INGESTER, ingester.name), user="ann")
        elif why == "its time":
            now = batch.time.monotonic() + pace.GIVE_BACK_AFTER_S
            monkeypatch.setattr(batch.time, "monotonic", lambda: now)
        elif why == "a stop":
            make_worker.stop["now"] = True  # type: ignore[attr-defined]
        else:
            held = Ingestion.objects.exclude(claim=None).exclude(status=Status.PENDING)
            held.update(claim=None, lease_until=None)

    monkeypatch.setattr("ingest.batch.protocol.reached", reached)
    assert worker.step() == 6
    assert [history(file)[-1] for file in files[:4]] == ["SUCCESS"] * 4
    assert [history(file) for file in files[4:]] == [["UNTRIED"]] * 4
    assert not Ingestion.objects.exclude(claim=None).exists()


@pytest.mark.usefixtures("much_waits")
def test_a_file_that_hangs_holds_no_others_for_long(
    make_worker: MakeWorker, wait_for_me: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "GIVE_BACK_AFTER_S", 0.3)
    wait_for_me(b"1")
    worker = make_worker("ByContent", batch_size=1, timeout=2)
    assert worker.step() == 1
    hangs, *others = wait_for_me(b"slow", b"2", b"3")
    held: list[int] = []

    def beat() -> None:
        held.append(Ingestion.objects.exclude(claim=None).count())

    monkeypatch.setattr(worker, "_beat", beat)
    assert worker.step() == 3
    assert (max(held), held[-1]) == (3, 1), "while it hangs"
    assert history(hangs)[-1] == "UNKNOWN"
    assert [history(file) for file in others] == [["UNTRIED"]] * 2
    assert drain(worker) == 2


@pytest.mark.usefixtures("much_waits")
def test_a_target_that_fails_is_not_asked_for_the_rest_of_a_claim(
    make_worker: MakeWorker, wait_for_me: Any
) -> None:
    wait_for_me(*[b"1"] * 5)
    worker = make_worker("ByContent", batch_size=5)
    assert worker.step() == 5
    files = wait_for_me(*[b"transient"] * 15)
    assert worker.step() == 15
    assert pauses.look(worker.run.ingester_id) is not None
    assert [history(file) for file in files[5:]] == [["UNTRIED"]] * 10
    assert {history(file)[-1] for file in files[:5]} == {"UNTRIED"}, "given back, uncharged"
    assert not Ingestion.objects.exclude(claim=None).exists()


def test_checks_make_no_attempt(make_worker: MakeWorker, wait_for_me: Any) -> None:
    good, ignored, empty = wait_for_me(b"1", b"2", b"")
    drain(make_worker(exclude_list=[ignored.filename]))
    assert history(good)[-1] == "SUCCESS"
    assert history(ignored) == ["UNTRIED", "IGNORED"]
    assert history(empty) == ["UNTRIED", "INVALID"]
    row = Ingestion.objects.get(file=empty)
    assert (row.attempts, row.claim) == (0, None)
    assert row.last_event.err_message == "it is empty"


def test_each_file_gets_its_own_outcome(make_worker: MakeWorker, wait_for_me: Any) -> None:
    good, bad, known = wait_for_me(b"good", b"bad", b"known")
    drain(make_worker("ByContent"))
    assert history(good)[-1] == "SUCCESS"
    event = FileEvent.objects.filter(file=bad).latest("id")
    assert (event.status, event.cause) == (Status.FAILURE, "<path> is bad")
    assert event.err_message.startswith("/")
    noted = FileEvent.objects.filter(file=known).latest("id")
    assert (noted.status, noted.note, noted.err_message) == (
        Status.SUCCESS,
        "already ingested",
        "",
    )


def test_a_file_that_kills_is_unknown_alone(make_worker: MakeWorker, wait_for_me: Any) -> None:
    first, evil, last = wait_for_me(b"good", b"kill", b"good")
    drain(make_worker("ByContent"))
    assert history(first) == ["UNTRIED", "PENDING", "SUCCESS"]
    assert history(evil) == ["UNTRIED", "PENDING", "UNKNOWN"]
    assert history(last) == ["UNTRIED", "PENDING", "UNTRIED", "PENDING", "SUCCESS"]
    assert Ingestion.objects.get(file=last).attempts == 1, "the first was given back"
    assert "SIGKILL" in FileEvent.objects.filter(file=evil).latest("id").err_message


def test_a_plugin_that_cannot_load_charges_nobody(
    make_worker: MakeWorker, wait_for_me: Any
) -> None:
    (file,) = wait_for_me(b"1")
    worker = make_worker("CannotLoad")
    for _ in range(2):
        with pytest.raises(TargetUnavailable, match="target is down"):
            worker.step()
    # Twice: now it waits for its turn to probe, as all others do.
    assert worker.step() == 0 and worker.paused
    pause = pauses.look(worker.run.ingester_id)
    assert pause is not None and "target is down" in pause.reason
    probe_is_due()
    with pytest.raises(TargetUnavailable):
        worker.step()
    assert Breaker.objects.get().failed_probes == 1
    assert history(file) == ["UNTRIED"]
    assert not claims.anything_held(Ingester.objects.get().pk)


def test_transient_failures_are_due_again(make_worker: MakeWorker, wait_for_me: Any) -> None:
    (file,) = wait_for_me(b"transient")
    worker = make_worker("ByContent", retry={"max_attempts": 2, "backoff": 30})
    assert drain(worker) == 1
    row = Ingestion.objects.get(file=file)
    assert row.status == Status.FAILURE
    assert row.next_attempt_on is not None
    Ingestion.objects.update(next_attempt_on=past())
    assert drain(worker) == 1
    row.refresh_from_db()
    assert (row.attempts, row.next_attempt_on) == (2, None), "no third attempt"
    assert history(file) == ["UNTRIED", "PENDING", "FAILURE", "PENDING", "FAILURE"]


def test_permanent_failures_are_not(make_worker: MakeWorker, wait_for_me: Any) -> None:
    (file,) = wait_for_me(b"bad")
    drain(make_worker("ByContent", retry={}))
    assert Ingestion.objects.get(file=file).next_attempt_on is None


def lost(ingester: Ingester, file: File) -> None:
    """Leave a file as a worker that died in an attempt leaves it."""
    claim = claims.claim(ingester.pk, [claims.Lane(Status.UNTRIED)], 1, "dead")
    assert claim is not None
    (held,) = claim.files
    assert held.file_id == file.pk
    pending = Step(
        held.ingestion_id, file.pk, Status.UNTRIED, claim.token, Status.PENDING, 1, keep=True
    )
    transitions.apply(ingester.pk, [pending])
    Ingestion.objects.filter(claim__isnull=False).update(lease_until=past())
    sweeping.sweep(ingester.pk, "sweeper")


def test_the_target_tells_what_became_of_a_lost_attempt(
    ingester: Ingester, make_worker: MakeWorker, wait_for_me: Any
) -> None:
    (there,) = wait_for_me(b"good")
    lost(ingester, there)
    (absent,) = wait_for_me(b"absent")
    lost(ingester, absent)
    drain(make_worker("CanTell"))
    assert history(there) == ["UNTRIED", "PENDING", "UNKNOWN", "SUCCESS"]
    assert history(absent) == ["UNTRIED", "PENDING", "UNKNOWN", "UNKNOWN"]
    assert "does not have" in Ingestion.objects.get(file=absent).last_event.err_message


def test_what_the_target_does_not_have_is_tried_again_if_retries_are_on(
    ingester: Ingester, make_worker: MakeWorker, wait_for_me: Any
) -> None:
    (absent,) = wait_for_me(b"absent")
    lost(ingester, absent)
    drain(make_worker("CanTell", retry={}))
    assert history(absent) == ["UNTRIED", "PENDING", "UNKNOWN", "PENDING", "SUCCESS"]
    assert Ingestion.objects.get(file=absent).attempts == 2


def test_a_question_that_fails_is_asked_again_and_costs_no_other_file(
    ingester: Ingester, make_worker: MakeWorker, wait_for_me: Any
) -> None:
    contents = (b"good", b"poison", b"known")
    files = []
    for content in contents:
        files += wait_for_me(content)
        lost(ingester, files[-1])
    worker = make_worker("HardToAsk")
    assert worker.step() == 3
    states = [Ingestion.objects.get(file=file) for file in files]
    assert [state.status for state in states] == ["SUCCESS", "UNKNOWN", "SUCCESS"]
    poisoned = states[1]
    assert "could not be asked" in poisoned.last_event.err_message
    assert "no answer" in poisoned.last_event.err_message
    # Later and later, and not for ever.
    pauses_s = []
    while (due := poisoned.next_attempt_on) is not None:
        pauses_s.append(round((due - poisoned.changed_on).total_seconds()))
        Ingestion.objects.filter(pk=poisoned.pk).update(next_attempt_on=past())
        assert worker.step() == 1
        poisoned.refresh_from_db()
    assert pauses_s[:3] == [60, 120, 240] and max(pauses_s) == 6 * 3600
    assert poisoned.status == Status.UNKNOWN
    assert FileEvent.objects.filter(file=files[1], status="UNKNOWN").count() == 16


def test_a_slow_look_at_the_files_gives_them_up_when_it_is_to_stop(
    make_worker: MakeWorker, wait_for_me: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = wait_for_me(b"good", b"good")
    worker = make_worker()
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    worker._beat = beat
    monkeypatch.setattr("ingest.holding.STOP_GRACE_S", 0.0)

    def slow(name: str, path: str) -> None:
        make_worker.stop["now"] = True  # type: ignore[attr-defined]

    worker._checks = [slow]
    worker.step()
    assert beats >= 2
    for file in files:
        row = Ingestion.objects.get(file=file)
        assert (row.status, row.claim) == (Status.UNTRIED, None)


def test_failures_of_before_are_looked_for_until_all_were_tried(
    ingester: Ingester,
    make_worker: MakeWorker,
    wait_for_me: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = wait_for_me(b"bad", b"good")
    drain(make_worker("ByContent"))
    monkeypatch.setattr("ingest.lanes.LOOK_EVERY_S", 0.0)
    worker = make_worker("ByContent", file_status=["UNTRIED", "FAILURE"])
    (lane,) = [lane for lane in worker._lanes.left if lane.before_event is not None]
    held = claims.claim(ingester.pk, [lane], 1, "somebody")
    assert held is not None
    assert worker.step() == 0
    assert lane in worker._lanes.left, "what is held may be given back"
    claims.drop(held, [one.ingestion_id for one in held.files])
    assert worker.step() == 1
    assert history(files[0]) == ["UNTRIED", "PENDING", "FAILURE", "PENDING", "FAILURE"]
    assert worker.step() == 0
    assert lane not in worker._lanes.left
    assert worker.step() == 0


def test_a_plugin_that_cannot_tell_leaves_it_to_the_operator(
    ingester: Ingester, make_worker: MakeWorker, wait_for_me: Any
) -> None:
    (file,) = wait_for_me(b"good")
    lost(ingester, file)
    drain(make_worker("ByContent"))
    row = Ingestion.objects.get(file=file)
    assert (row.status, row.next_attempt_on) == (Status.UNKNOWN, None)
    assert "rerun the file" in row.last_event.err_message


def test_stopping_ends_a_long_attempt(
    make_worker: MakeWorker, wait_for_me: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order: the file under way is in doubt, those after it were never begun."""
    monkeypatch.setattr("ingest.holding.STOP_GRACE_S", 0.2)
    slow, after = wait_for_me(b"slow", b"good")
    worker = make_worker("ByContent")
    make_worker.stop["now"] = True  # type: ignore[attr-defined]
    assert worker.step() == 2
    assert history(slow) == ["UNTRIED", "PENDING", "UNKNOWN"]
    assert history(after) == ["UNTRIED", "PENDING", "UNTRIED"]
    assert not claims.anything_held(Ingester.objects.get().pk)


def test_a_lost_lease_discards_the_outcome(
    ingester: Ingester, make_worker: MakeWorker, wait_for_me: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (file,) = wait_for_me(b"good")
    worker = make_worker("ByContent")
    original = worker._host.ingest

    def robbed(*args: Any, **kwargs: Any) -> Any:
        Ingestion.objects.update(lease_until=past())
        sweeping.sweep(ingester.pk, "sweeper")
        return original(*args, **kwargs)

    worker._host.ingest = robbed  # type: ignore[method-assign]
    worker.step()
    assert history(file) == ["UNTRIED", "PENDING", "UNKNOWN"]
    assert "lease lost" in caplog.text


def test_whoever_stood_still_past_its_lease_stops_its_plugin(
    ingester: Ingester,
    make_worker: MakeWorker,
    wait_for_me: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Somebody else may be at work on its files by now."""
    monkeypatch.setattr(claims, "RENEW_EVERY_S", 0.0)
    slow, after = wait_for_me(b"slow", b"good")
    worker = make_worker("ByContent")
    original = worker._host.ingest

    def stood_still(*args: Any, **kwargs: Any) -> Any:
        Ingestion.objects.filter(claim__isnull=False).update(lease_until=past())
        return original(*args, **kwargs)

    worker._host.ingest = stood_still  # type: ignore[method-assign]
    begin = time.monotonic()
    assert worker.step() == 2
    assert time.monotonic() - begin < 50, "the slow file takes 60 s"
    assert "lapsed" in caplog.text
    assert not worker._host.alive
    sweeping.sweep(ingester.pk, "sweeper")
    assert history(slow) == history(after) == ["UNTRIED", "PENDING", "UNKNOWN"]


@pytest.mark.django_db(transaction=True)
def test_outcomes_wait_for_the_database(
    make_worker: MakeWorker, wait_for_me: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = wait_for_me(b"good")
    failures = [OperationalError("the server is gone")]
    real = transitions.apply

    def sometimes(ingester_id: int, steps: Any, **kwargs: Any) -> Any:
        if steps and steps[0].status == Status.SUCCESS and failures:
            raise failures.pop()
        return real(ingester_id, steps, **kwargs)

    monkeypatch.setattr(transitions, "apply", sometimes)
    drain(make_worker())
    assert history(file) == ["UNTRIED", "PENDING", "SUCCESS"]


def probe_is_due() -> None:
    Breaker.objects.update(probe_on=past())


def test_a_target_that_is_down_and_comes_back(make_worker: MakeWorker, wait_for_me: Any) -> None:
    """Nobody pays, retry configured or not; one file at a time finds out."""
    retry = {"max_attempts": 2, "backoff": 3600}
    down = wait_for_me(*[b"transient"] * 20)
    worker, other = make_worker("ByContent", retry=retry), make_worker("ByContent")
    assert worker.step() == 10
    assert (worker.step(), other.step()) == (0, 0)
    assert worker.paused and other.paused
    for failed in (1, 2):
        probe_is_due()
        assert other.step() == 1
        assert other.step() == 0 and other.paused
        assert Breaker.objects.get().failed_probes == failed
    rows = Ingestion.objects.values_list("status", "attempts", "next_attempt_on", "claim")
    assert set(rows) == {(Status.UNTRIED, 0, None, None)}
    assert FileEvent.objects.filter(note=breaker.PROBE_FAILED).count() == 2
    for file in down:
        Path(file.path_below(worker.run.root)).write_bytes(b"good")
    probe_is_due()
    assert worker.step() == 1
    assert drain(worker) == 19 and not worker.paused
    rows = Ingestion.objects.values_list("status", "attempts", "next_attempt_on", "claim")
    assert set(rows) == {(Status.SUCCESS, 1, None, None)}


def test_files_that_were_due_stay_so(make_worker: MakeWorker, wait_for_me: Any) -> None:
    """A retry that hits a target that is down is none."""
    files = wait_for_me(*[b"transient"] * 5)
    rows = Ingestion.objects.filter(file__in=files)
    for row in rows:
        step = Step(row.pk, row.file_id, Status.UNTRIED, None, Status.FAILURE, 1)
        transitions.apply(row.ingester_id, [step])
    rows.update(next_attempt_on=past())
    worker = make_worker("ByContent", retry={"max_attempts": 3})
    assert worker.step() == 5
    assert pauses.look(worker.run.ingester_id) is not None
    assert set(rows.values_list("status", "attempts")) == {(Status.FAILURE, 1)}
    assert rows.filter(next_attempt_on__lte=timezone.now()).count() == 5


def test_failures_that_a_run_takes_again_are_due(make_worker: MakeWorker, wait_for_me: Any) -> None:
    """`file_status: FAILURE` takes a file once; one that was given back was not taken."""
    files = wait_for_me(*[b"transient"] * 5)
    for row in Ingestion.objects.filter(file__in=files):
        step = Step(row.pk, row.file_id, Status.UNTRIED, None, Status.FAILURE, 1)
        transitions.apply(row.ingester_id, [step])
    worker = make_worker("ByContent", file_status="FAILURE")
    assert worker.step() == 5
    for file in files:
        Path(file.path_below(worker.run.root)).write_bytes(b"good")
    probe_is_due()
    assert drain(worker) == 5
    assert set(Ingestion.objects.values_list("status", "attempts")) == {(Status.SUCCESS, 2)}


def test_a_probe_that_checks_refuse_is_none(make_worker: MakeWorker, wait_for_me: Any) -> None:
    ingester = Ingester.objects.get()
    (empty,) = wait_for_me(b"")
    worker = make_worker("ByContent")
    now = past()
    Breaker.objects.create(ingester=ingester, message="down", opened_on=now, probe_on=now)
    assert worker.step() == 1
    assert history(empty) == ["UNTRIED", "INVALID"]
    row = Breaker.objects.get()
    assert row.opened_on is not None and row.failed_probes == 0
    assert probing.probe_is_due(ingester.pk)


def test_a_probe_that_kills_is_no_answer(make_worker: MakeWorker, wait_for_me: Any) -> None:
    (evil,) = wait_for_me(b"kill")
    worker = make_worker("ByContent")
    now = past()
    Breaker.objects.create(
        ingester=Ingester.objects.get(), message="down", opened_on=now, probe_on=now
    )
    assert worker.step() == 1
    assert history(evil)[-1] == "UNKNOWN"
    row = Breaker.objects.get()
    assert row.opened_on is not None and row.failed_probes == 1


def test_a_question_is_asked_again_when_the_target_answers(
    ingester: Ingester, make_worker: MakeWorker, wait_for_me: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = wait_for_me(b"good")
    lost(ingester, file)
    worker = make_worker("CanTell")
    now = past()
    Breaker.objects.create(ingester=ingester, message="down", opened_on=now, probe_on=now)
    real = worker._host.contains

    def silent(*args: Any, **kwargs: Any) -> Any:
        raise IngestRaised("ConnectionError: no answer")

    monkeypatch.setattr(worker._host, "contains", silent)
    assert worker.step() == 1
    row = Ingestion.objects.get(file=file)
    assert (row.status, row.claim) == (Status.UNKNOWN, None)
    assert row.next_attempt_on is not None
    assert Breaker.objects.get().failed_probes == 1
    monkeypatch.setattr(worker._host, "contains", real)
    probe_is_due()
    drain(worker)
    assert history(file) == ["UNTRIED", "PENDING", "UNKNOWN", "SUCCESS"]
    assert pauses.look(ingester.pk) is None


# The storage is not mounted


def marked(storage: Storage) -> Path:
    """Give a storage area its marker, as a finder does."""
    return Path(storages.register(storage.name, Path(storage.root)).root) / MARKER_NAME


def test_a_storage_that_is_not_mounted_charges_nobody(
    make_worker: MakeWorker, wait_for_me: Any, storage: Storage
) -> None:
    (file,) = wait_for_me(b"1")
    marker = marked(storage)
    worker = make_worker()
    unmounted = marker.parent.rename(marker.parent.with_name("elsewhere"))
    marker.parent.mkdir()
    with pytest.raises(StorageUnavailable, match="is its file system mounted"):
        worker.step()
    assert history(file) == ["UNTRIED"]
    marker.parent.rmdir()
    unmounted.rename(marker.parent)
    assert drain(worker) == 1
    assert history(file) == ["UNTRIED", "PENDING", "SUCCESS"]


def test_a_storage_that_goes_after_the_claim_gives_the_files_back(
    make_worker: MakeWorker,
    wait_for_me: Any,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = wait_for_me(b"1", b"2")
    marker = marked(storage)
    worker = make_worker()
    claim = claims.claim

    def claim_and_unmount(*args: Any, **options: Any) -> Any:
        found = claim(*args, **options)
        marker.parent.rename(marker.parent.with_name("elsewhere"))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(claims, "claim", claim_and_unmount)
        with pytest.raises(StorageUnavailable):
            worker.step()
    assert [history(file) for file in files] == [["UNTRIED"]] * 2
    marker.parent.with_name("elsewhere").rename(marker.parent)
    assert drain(worker) == 2, "they are free at once"


def test_failures_for_want_of_the_storage_are_given_back(
    make_worker: MakeWorker, wait_for_me: Any, storage: Storage
) -> None:
    files = wait_for_me(b"1", b"2")
    marker = marked(storage)
    worker = make_worker("Unmounts", {"root": storage.root})
    assert worker.step() == 2
    for file in files:
        assert history(file) == ["UNTRIED", "PENDING", "UNTRIED"]
        assert Ingestion.objects.get(file=file).attempts == 0
    with pytest.raises(StorageUnavailable):
        worker.step()
    marker.parent.with_name("elsewhere").rename(marker.parent)
    assert drain(worker) == 2
    assert {history(file)[-1] for file in files} == {"SUCCESS"}


def test_a_person_pauses_the_ingester(
    make_worker: MakeWorker, wait_for_me: Any, ingester: Ingester
) -> None:
    (file,) = wait_for_me(b"1")
    worker = make_worker()
    what = Pausable(ComponentKind.INGESTER, ingester.name)
    operator_pauses.pause(what, user="ann", note="new disk")
    assert (worker.step(), worker.paused) == (0, True)
    assert history(file) == ["UNTRIED"]
    operator_pauses.resume(what, user="ann")
    assert (worker.step(), worker.paused) == (1, False)
    assert history(file)[-1] == "SUCCESS"


@pytest.mark.usefixtures("much_waits")
def test_a_storage_that_goes_away_within_a_claim(
    make_worker: MakeWorker,
    wait_for_me: Any,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = marked(storage).parent
    wait_for_me(b"1")
    worker = make_worker(batch_size=1)
    assert worker.step() == 1
    files = wait_for_me(b"1", b"2", b"3")

    def reached(step: str) -> None:
        if step == "verdict seen" and root.exists():
            root.rename(root.with_name("elsewhere"))

    monkeypatch.setattr("ingest.batch.protocol.reached", reached)
    with pytest.raises(StorageUnavailable):
        worker.step()
    assert [history(file)[-1] for file in files] == ["SUCCESS", "UNTRIED", "UNTRIED"]
    assert not Ingestion.objects.exclude(claim=None).exists()
