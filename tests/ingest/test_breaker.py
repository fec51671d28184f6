"""The breaker: what opens it, who probes, what closes it, and what becomes of the files."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from buffer.models import File
from ingest import breaker, claims, pauses, probing, transitions
from ingest.breaker import Outcome
from ingest.claims import Claim, Lane
from ingest.models import Breaker, FileEvent, Ingester, Ingestion
from ingest.probing import Probe
from ingest.statuses import Status
from ingest.transitions import Step

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]
DOWN = "/data/repo/7.db: connection refused after 3 s"


class Attempts:
    """Claims of the tests', and how their files fare."""

    def __init__(self, ingester: Ingester, make_file: MakeFile) -> None:
        self.ingester, self._make_file = ingester, make_file
        self._claims: dict[int, tuple[Claim, claims.Claimed]] = {}

    def begin(self, count: int, status: Status = Status.UNTRIED) -> list[File]:
        """Make files, each in an attempt of its own."""
        files = [self._make_file() for _ in range(count)]
        transitions.create(self.ingester.pk, [file.pk for file in files], status)
        return [self.again(file, status) for file in files]

    def again(self, file: File, status: Status = Status.UNTRIED) -> File:
        """Claim a file and begin an attempt."""
        claim = claims.claim(self.ingester.pk, [Lane(status)], 1, "worker")
        assert claim is not None
        (held,) = claim.files
        assert held.file_id == file.pk
        pending = Step(held.ingestion_id, file.pk, status, claim.token, Status.PENDING,
                       held.attempts + 1, keep=True)  # fmt: skip
        assert transitions.apply(self.ingester.pk, [pending])
        self._claims[file.pk] = claim, held
        return file

    def failed(self, file: File, message: str = DOWN) -> Outcome:
        """Make the outcome of a transient failure."""
        claim, held = self._claims[file.pk]
        back = Step(held.ingestion_id, file.pk, Status.PENDING, claim.token, held.status,
                    held.attempts, message=message, note=breaker.GIVEN_BACK)  # fmt: skip
        return Outcome(self._end(file, Status.FAILURE, message), instead=back)

    def answer(self, file: File, status: Status = Status.SUCCESS) -> Outcome:
        """Make an outcome that only a target that answers can give."""
        return Outcome(self._end(file, status), answer=True)

    def _end(self, file: File, status: Status, message: str = "") -> Step:
        claim, held = self._claims[file.pk]
        return Step(held.ingestion_id, file.pk, Status.PENDING, claim.token, status,
                    held.attempts + 1, message=message)  # fmt: skip

    def write(self, *outcomes: Outcome) -> None:
        """Write outcomes as a ledger does; all of them must take place."""
        with transaction.atomic():
            steps = breaker.weigh(self.ingester.pk, outcomes)
            assert len(transitions.apply(self.ingester.pk, steps)) == len(outcomes)

    def fail(self, *files: File, message: str = DOWN) -> None:
        """Write that files failed, each for itself, as workers of their own would."""
        for file in files:
            self.write(self.failed(file, message))

    def is_open(self) -> bool:
        return pauses.look(self.ingester.pk) is not None

    def open(self) -> list[File]:
        """Have the breaker open; give the files that did it."""
        files = self.begin(breaker.FAILURES_IN_A_ROW)
        self.fail(*files)
        assert self.is_open()
        return files


@pytest.fixture
def attempts(ingester: Ingester, make_file: MakeFile) -> Attempts:
    return Attempts(ingester, make_file)


def history(file: File) -> list[str]:
    return list(FileEvent.objects.filter(file=file).order_by("id").values_list("status", flat=True))


def standing(file: File) -> tuple[str, int, bool]:
    row = Ingestion.objects.select_related("last_event").get(file=file)
    assert row.last_event.status == row.status
    newest = FileEvent.objects.filter(file=file).latest("id")
    assert row.last_event_id == newest.pk
    return row.status, row.attempts, row.claim is not None


def pass_time() -> None:
    """Let the pause be over."""
    Breaker.objects.filter(opened_on__isnull=False).update(probe_on=Now())


def test_files_in_a_row_open_it_and_are_given_back(attempts: Attempts) -> None:
    *first, last = attempts.begin(breaker.FAILURES_IN_A_ROW)
    attempts.fail(*first)
    assert not attempts.is_open()
    assert {standing(file) for file in first} == {("FAILURE", 1, False)}
    attempts.fail(last)
    assert attempts.is_open()
    assert {standing(file) for file in (*first, last)} == {("UNTRIED", 0, False)}
    # One outcome for each claim; what was written already is taken back by an event of its own.
    assert history(first[0]) == ["UNTRIED", "PENDING", "FAILURE", "UNTRIED"]
    assert history(last) == ["UNTRIED", "PENDING", "UNTRIED"]
    for file in (*first, last):
        event = FileEvent.objects.filter(file=file).latest("id")
        assert "connection refused" in event.err_message
        assert event.note == breaker.GIVEN_BACK


def test_all_at_once_is_the_same(attempts: Attempts) -> None:
    files = attempts.begin(10)
    attempts.write(*(attempts.failed(file) for file in files))
    assert attempts.is_open()
    assert {standing(file) for file in files} == {("UNTRIED", 0, False)}
    assert history(files[0]) == ["UNTRIED", "PENDING", "UNTRIED"]


def test_what_workers_still_had_in_hand_is_given_back(attempts: Attempts) -> None:
    held = attempts.begin(3)
    attempts.open()
    attempts.fail(*held, message="something else")
    assert {standing(file) for file in held} == {("UNTRIED", 0, False)}
    pause = pauses.look(attempts.ingester.pk)
    assert pause is not None and "connection refused" in pause.reason


@pytest.mark.parametrize("status", [Status.SUCCESS, Status.FAILURE])
def test_an_answer_in_between_begins_a_new_row(attempts: Attempts, status: Status) -> None:
    """A target that works for some files, or refuses some for what they are, is not down."""
    for _ in range(3):
        *bad, good = attempts.begin(breaker.FAILURES_IN_A_ROW)
        attempts.fail(*bad)
        attempts.write(attempts.answer(good, status))
    assert not attempts.is_open()
    many = attempts.begin(12)
    outcomes = [attempts.failed(file) for file in many]
    outcomes[4] = attempts.answer(many[4], status)
    outcomes[9] = attempts.answer(many[9], status)
    attempts.write(*outcomes)
    assert not attempts.is_open()
    assert standing(many[11]) == ("FAILURE", 1, False)


def test_an_answer_written_together_with_failures(attempts: Attempts) -> None:
    good, *bad = attempts.begin(breaker.FAILURES_IN_A_ROW + 1)
    *first, last = bad
    attempts.fail(*first)
    attempts.write(attempts.answer(good), attempts.failed(last))
    assert not attempts.is_open()
    assert len(Breaker.objects.get().streak) == 1


def test_an_answer_after_them_says_that_it_is_not_the_target(attempts: Attempts) -> None:
    *bad, good = attempts.begin(9)
    attempts.write(*(attempts.failed(file) for file in bad), attempts.answer(good))
    assert not attempts.is_open()
    assert {standing(file) for file in bad} == {("FAILURE", 1, False)}


def test_other_causes_do_not_count_together(attempts: Attempts) -> None:
    for n, file in enumerate(attempts.begin(12)):
        attempts.fail(file, message=f"trouble of the kind {'ab'[n % 2]}")
    assert not attempts.is_open()


def test_the_same_cause_may_name_other_files(attempts: Attempts) -> None:
    for n, file in enumerate(attempts.begin(breaker.FAILURES_IN_A_ROW)):
        attempts.fail(file, message=f"/data/storage/{n}.fits: no answer in {n}.5 s")
    assert attempts.is_open()


def test_one_file_that_fails_again_and_again_does_not_open_it(attempts: Attempts) -> None:
    (file,) = attempts.begin(1)
    for _ in range(3 * breaker.FAILURES_IN_A_ROW):
        attempts.fail(file)
        row = Ingestion.objects.get(file=file)
        step = Step(row.pk, file.pk, Status.FAILURE, None, Status.RERUN, row.attempts)
        transitions.apply(attempts.ingester.pk, [step])
        attempts.again(file, Status.RERUN)
    assert not attempts.is_open()


def test_files_go_back_to_where_they_were(attempts: Attempts) -> None:
    asked, new = attempts.begin(1, Status.RERUN), attempts.begin(4)
    # Somebody looked after one of them meanwhile.
    attempts.fail(*new[:2])
    row = Ingestion.objects.get(file=new[0])
    step = Step(row.pk, new[0].pk, Status.FAILURE, None, Status.IGNORED, row.attempts)
    transitions.apply(attempts.ingester.pk, [step])
    attempts.fail(*asked, *new[2:])
    assert attempts.is_open()
    assert standing(asked[0]) == ("RERUN", 0, False)
    assert standing(new[0])[0] == "IGNORED"
    assert {standing(file)[0] for file in new[1:]} == {"UNTRIED"}


def test_only_one_probes(attempts: Attempts) -> None:
    ingester = attempts.ingester.pk
    assert Probe.take(ingester) is None, "nothing is open"
    attempts.open()
    assert not probing.probe_is_due(ingester)
    assert Probe.take(ingester) is None, "too early"
    pass_time()
    assert probing.probe_is_due(ingester)
    probe = Probe.take(ingester)
    assert probe is not None
    assert Probe.take(ingester) is None
    pause = pauses.look(ingester)
    assert pause is not None and pause.probing
    assert "is being probed" in pause.next


def test_who_looked_at_the_same_time_loses(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts.open()
    pass_time()
    assert Probe.take(attempts.ingester.pk) is not None
    monkeypatch.setattr(probing, "probe_is_due", lambda ingester_id: True)
    assert Probe.take(attempts.ingester.pk) is None


def test_a_prober_that_dies_loses_the_probe(attempts: Attempts) -> None:
    attempts.open()
    pass_time()
    dead = Probe.take(attempts.ingester.pk)
    assert dead is not None
    pass_time()
    probe = Probe.take(attempts.ingester.pk)
    assert probe is not None
    # Should it come back: it has nothing to say.
    dead.end()
    assert Breaker.objects.get().failed_probes == 0
    assert Probe.take(attempts.ingester.pk) is None
    probe.end()
    assert Breaker.objects.get().failed_probes == 1


def test_a_probe_is_renewed(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts.open()
    pass_time()
    probe = Probe.take(attempts.ingester.pk)
    assert probe is not None
    beats: list[int] = []
    beat = probe.renewing(lambda: beats.append(1))
    pass_time()
    beat()
    assert probing.probe_is_due(attempts.ingester.pk), "not yet"
    monkeypatch.setattr(probing, "RENEW_EVERY_S", 0.0)
    beat()
    assert not probing.probe_is_due(attempts.ingester.pk)
    assert len(beats) == 2


def test_pauses_grow_up_to_a_bound(attempts: Attempts) -> None:
    attempts.open()
    pauses = []
    for _ in range(8):
        row = Breaker.objects.get()
        assert row.probe_on is not None
        pauses.append((row.probe_on - timezone.now()).total_seconds())
        pass_time()
        probe = Probe.take(attempts.ingester.pk)
        assert probe is not None
        probe.end()
    for pause, expected in zip(pauses, (2, 4, 8, 16, 30, 30, 30, 30), strict=True):
        # A second may have passed before it was read.
        assert 0.7 * expected - 1 < pause < 1.3 * expected, pauses
    assert Breaker.objects.get().failed_probes == 8


def test_a_probe_that_tried_nothing_is_none(attempts: Attempts) -> None:
    attempts.open()
    pass_time()
    probe = Probe.take(attempts.ingester.pk)
    assert probe is not None
    probe.tried = False
    probe.end()
    assert probing.probe_is_due(attempts.ingester.pk)
    assert Breaker.objects.get().failed_probes == 0


@pytest.mark.parametrize("status", [Status.SUCCESS, Status.FAILURE])
def test_an_answer_closes_it(attempts: Attempts, status: Status) -> None:
    (held,) = attempts.begin(1)
    files = attempts.open()
    attempts.write(attempts.answer(held, status))
    assert not attempts.is_open()
    assert standing(held) == (status, 1, False)
    # All over again, with nothing left of the last time.
    *first, last = files
    attempts.fail(*(attempts.again(file) for file in first))
    assert not attempts.is_open()
    attempts.fail(attempts.again(last))
    assert attempts.is_open()


def test_what_fails_around_an_answer(attempts: Attempts) -> None:
    before, good, between, better, after = attempts.begin(5)
    attempts.open()
    attempts.write(
        attempts.failed(before),
        attempts.answer(good),
        attempts.failed(between),
        attempts.answer(better),
        attempts.failed(after),
    )
    assert not attempts.is_open()
    assert standing(before)[0] == "UNTRIED"
    assert standing(between)[0] == standing(after)[0] == "FAILURE"
    assert len(Breaker.objects.get().streak) == 1


def test_files_that_always_fail_pay_in_the_end(attempts: Attempts) -> None:
    """Else a few of them, among others that pass, would be tried for ever."""
    bad = attempts.open()
    for _ in range(breaker.MOST_GIVEN_BACK):
        breaker.answered(attempts.ingester.pk)
        attempts.fail(*(attempts.again(file) for file in bad))
        assert attempts.is_open()
    assert {standing(file) for file in bad} == {("FAILURE", 1, False)}
    assert history(bad[0]).count("UNTRIED") == 1 + breaker.MOST_GIVEN_BACK


def test_a_plugin_that_cannot_be_loaded_opens_it(attempts: Attempts) -> None:
    ingester = attempts.ingester.pk
    (file,) = attempts.begin(1)
    text = "plugin X cannot be loaded: no route to host"
    breaker.failed_load(ingester, text)
    assert not attempts.is_open(), "it may be one host's trouble"
    attempts.write(attempts.answer(file))
    breaker.failed_load(ingester, text)
    assert not attempts.is_open(), "others go on"
    breaker.failed_load(ingester, text)
    pause = pauses.look(ingester)
    assert pause is not None and pause.reason == text


def test_probe_now(attempts: Attempts) -> None:
    ingester = attempts.ingester.pk
    assert not probing.probe_now(ingester)
    attempts.open()
    Breaker.objects.update(failed_probes=7)
    assert probing.probe_now(ingester)
    assert Breaker.objects.get().failed_probes == 0
    assert Probe.take(ingester) is not None
    assert not probing.probe_now(ingester), "somebody does"


def test_an_ingester_s_breaker_is_its_own(attempts: Attempts) -> None:
    other = Ingester.objects.create(name="other", storage=attempts.ingester.storage)
    attempts.open()
    assert pauses.look(other.pk) is None


def test_the_reason_is_shown_without_secrets(attempts: Attempts) -> None:
    files = attempts.begin(breaker.FAILURES_IN_A_ROW)
    attempts.fail(*files, message="no: postgres://a:hunter2@h \x1b[2J\nmore")
    pause = pauses.shown_pause(Ingester.objects.get())
    assert pause is not None
    assert "hunter2" not in str(pause) and "\x1b" not in str(pause) and "more" not in str(pause)
    assert str(pause).startswith("paused since 20")
    assert "5 files in a row failed: no: postgres://a:" in str(pause)


def test_a_probe_takes_any_file(ingester: Ingester, make_file: MakeFile) -> None:
    """One that always fails must not hide the others."""
    ids = [make_file().pk for _ in range(12)]
    transitions.create(ingester.pk, ids[:6], Status.UNTRIED)
    transitions.create(ingester.pk, ids[6:8], Status.RERUN)
    transitions.create(ingester.pk, ids[8:], Status.UNKNOWN)
    for n, file_id in enumerate(ids[8:], start=1):
        # What is due first was known last.
        due = timezone.now() - timedelta(hours=n)
        Ingestion.objects.filter(file=file_id).update(next_attempt_on=due)
    lanes = [Lane(Status.RERUN), Lane(Status.UNKNOWN, due=True), Lane(Status.UNTRIED)]
    seen: set[int] = set()
    # A file that is one of many comes in every 18th probe.
    for _ in range(2000):
        if seen == set(ids):
            break
        claim = claims.claim(ingester.pk, lanes, 1, "prober", anywhere=True)
        assert claim is not None
        (held,) = claim.files
        seen.add(held.file_id)
        claims.drop(claim, [held.ingestion_id])
    else:
        pytest.fail(f"never probed: {set(ids) - seen}")


@pytest.mark.django_db(transaction=True)
def test_one_line_in_the_log_for_each_turn(
    attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    held = attempts.begin(3)
    attempts.open()
    attempts.fail(held[0])
    attempts.write(attempts.answer(held[1]))
    attempts.write(attempts.answer(held[2]))
    mine = [record.getMessage() for record in caplog.records if record.name == "ingest.breaker"]
    assert len(mine) == 2, mine
    assert "pauses: 5 files in a row failed" in mine[0] and "connection refused" in mine[0]
    assert "goes on" in mine[1]


def test_the_row_agrees_with_itself(ingester: Ingester) -> None:
    wrong: list[dict[str, Any]] = [
        {"opened_on": timezone.now()},
        {"probe_on": timezone.now() + timedelta(seconds=1)},
        {"prober": uuid.uuid4()},
    ]
    for fields in wrong:
        with pytest.raises(IntegrityError), transaction.atomic():
            Breaker.objects.create(ingester=ingester, **fields)
