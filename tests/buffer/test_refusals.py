"""What is remembered of refused arrivals."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from buffer.models import Choice, Decision, Refusal, RefusalReason, Storage
from buffer.refusals import READ_EVERY_S, Refusals
from buffer.refusing import FIRST_RETRY_S, LONGEST_FULL_S, LONGEST_RETRY_S, Refused, pause_s

pytestmark = pytest.mark.django_db

LASTING = Refused(RefusalReason.CONFLICT, "same name")
PASSING = Refused(RefusalReason.UNREADABLE, "may not be read")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(storage: Storage, clock: Clock) -> Refusals:
    return Refusals(storage, "/buffer", steady=clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"x")
    return tmp_path / "a"


def test_a_lasting_one_stands_until_the_arrival_changes(
    refusals: Refusals, path: Path, clock: Clock
) -> None:
    assert not refusals.stands("a", path.lstat())
    refusals.add("a", path.lstat(), LASTING)
    clock.now += 1e9
    assert refusals.stands("a", path.lstat())
    assert refusals.stands_for_good("a", path.lstat())
    assert not refusals.stands("b", path.lstat())
    path.write_bytes(b"other")
    assert not refusals.stands("a", path.lstat())


def test_a_passing_one_is_due_again(refusals: Refusals, path: Path, clock: Clock) -> None:
    refusals.add("a", path.lstat(), PASSING)
    assert refusals.stands("a", path.lstat())
    assert not refusals.stands_for_good("a", path.lstat())
    clock.now += FIRST_RETRY_S * 1.3
    assert not refusals.stands("a", path.lstat())
    refusals.add("a", path.lstat(), PASSING)
    row = Refusal.objects.get()
    assert row.times_seen == 2
    assert row.next_attempt_on is not None and row.next_attempt_on > timezone.now()


def test_pauses_grow_to_a_limit() -> None:
    def pause(reason: RefusalReason, tries: int) -> float:
        seconds = pause_s(reason, tries)
        assert seconds is not None
        return seconds

    assert FIRST_RETRY_S * 0.7 < pause(RefusalReason.EIO, 0) < FIRST_RETRY_S * 1.3
    assert pause(RefusalReason.EIO, 99) > LONGEST_RETRY_S * 0.7
    assert pause(RefusalReason.STORAGE_FULL, 99) < LONGEST_FULL_S * 1.3
    assert pause_s(RefusalReason.CONFLICT, 0) is None


def test_remembered_over_a_restart(refusals: Refusals, storage: Storage, path: Path) -> None:
    refusals.add("a", path.lstat(), LASTING)
    refusals.add("b", path.lstat(), PASSING)
    again = Refusals(storage, "/buffer")
    assert again.stands("a", path.lstat())
    assert not again.stands("b", path.lstat()), "a restart may be what it waits for"
    assert len(Refusals(storage, "/other")) == 0


def test_closed_when_taken_in_or_gone(refusals: Refusals, path: Path) -> None:
    for name in ("a", "b"):
        refusals.add(name, path.lstat(), LASTING)
    refusals.end_of_scan()
    refusals.resolve("a", "taken in")
    refusals.resolve("unknown", "taken in")
    assert Refusal.objects.get(path="a").resolved_how == "taken in"
    refusals.end_of_scan()
    assert Refusal.objects.get(path="b").resolved_how == "no longer in the buffer"
    assert len(refusals) == 0


def test_many_that_are_gone(
    refusals: Refusals, path: Path, django_assert_max_num_queries: object
) -> None:
    for n in range(600):
        refusals.add(f"{n}", path.lstat(), LASTING)
    refusals.end_of_scan()
    with django_assert_max_num_queries(2):  # type: ignore[operator]
        refusals.end_of_scan()
    assert not Refusal.objects.unresolved().exists()


def test_what_a_person_decided_is_forgotten(refusals: Refusals, path: Path, clock: Clock) -> None:
    refusals.add("a", path.lstat(), LASTING)
    refusals.add("b", path.lstat(), LASTING)
    Refusal.objects.filter(path="a").update(resolved_on=timezone.now())
    refusals.refresh()
    assert refusals.stands("a", path.lstat()), "not asked at every cycle"
    clock.now += 100
    refusals.refresh()
    assert not refusals.stands("a", path.lstat())
    assert refusals.stands("b", path.lstat())


def test_that_nobody_decided_is_seen_without_reading_them(
    refusals: Refusals, path: Path, clock: Clock
) -> None:
    refusals.add("a", path.lstat(), LASTING)
    refusals.add("b", path.lstat(), LASTING)
    clock.now += 100
    with CaptureQueriesContext(connection) as queries:
        assert not refusals.refresh()
    assert ["COUNT(*)" in query["sql"] for query in queries] == [True]


@pytest.fixture
def opened_again(refusals: Refusals, path: Path) -> None:
    """One that stands again behind our back, beside another one."""
    refusals.add("a", path.lstat(), LASTING)
    refusals.add("opened again", path.lstat(), LASTING)
    refusals.resolve("opened again", "taken in")
    Refusal.objects.filter(path="opened again").update(resolved_on=None)


@pytest.mark.usefixtures("opened_again")
def test_one_that_was_opened_again_hides_no_decision(
    refusals: Refusals, path: Path, clock: Clock
) -> None:
    clock.now += 100
    assert not refusals.refresh()
    Refusal.objects.filter(path="a").update(resolved_on=timezone.now())
    clock.now += 100
    assert refusals.refresh()
    assert not refusals.stands("a", path.lstat())


@pytest.mark.usefixtures("opened_again")
def test_one_that_was_opened_meanwhile_hides_a_decision_for_some_minutes(
    refusals: Refusals, path: Path, clock: Clock
) -> None:
    Refusal.objects.filter(path="a").update(resolved_on=timezone.now())
    clock.now += 100
    assert not refusals.refresh(), "as many as before"
    clock.now += READ_EVERY_S
    assert refusals.refresh()
    assert not refusals.stands("a", path.lstat())


@pytest.fixture
def met(refusals: Refusals, path: Path) -> Callable[[], bool]:
    """Of a refusal that was met in some scans, beside another one, what tells whether it stands."""

    def stands() -> bool:
        return refusals.stands("a", path.lstat())

    (path.parent / "other").touch()
    refusals.add("a", path.lstat(), LASTING)
    refusals.add("other", (path.parent / "other").lstat(), LASTING)
    for _ in range(3):
        assert stands()
        assert refusals.stands("other", (path.parent / "other").lstat())
        refusals.end_of_scan()
    assert len(refusals) == Refusal.objects.unresolved().count() == 2, "met in each scan"
    return stands


def test_met_often_and_changed(met: Callable[[], bool], refusals: Refusals, path: Path) -> None:
    before = path.lstat()
    path.write_bytes(b"changed")
    assert not met()
    refusals.add("a", path.lstat(), LASTING)
    assert met()
    assert not refusals.stands("a", before)


def test_met_often_and_taken_in(met: Callable[[], bool], refusals: Refusals) -> None:
    refusals.resolve("a", "taken in")
    assert not met()


def test_met_often_and_gone_for_a_scan(
    met: Callable[[], bool], refusals: Refusals, path: Path
) -> None:
    for _ in range(2):
        assert refusals.stands("other", (path.parent / "other").lstat())
        refusals.end_of_scan()
    assert len(refusals) == 1
    assert not met()


def test_met_often_and_closed_by_a_person(
    met: Callable[[], bool], refusals: Refusals, clock: Clock
) -> None:
    Refusal.objects.filter(path="a").update(resolved_on=timezone.now())
    clock.now += 100
    refusals.refresh()
    assert not met()


def test_met_often_and_decided_upon(met: Callable[[], bool], refusals: Refusals) -> None:
    decision = Decision.objects.create(
        refusal=Refusal.objects.get(path="a"), choice=Choice.KEEP_BOTH, new_name="b", user="ann"
    )
    refusals.decisions.load()
    assert not met()
    refusals.decisions.forget(decision)
    assert met()


def test_a_long_look_for_decisions_is_taken_less_often(
    refusals: Refusals, path: Path, clock: Clock
) -> None:
    refusals.add("a", path.lstat(), LASTING)
    clock.now += 10

    def slow(execute: Any, *arguments: Any) -> Any:
        clock.now += 1
        return execute(*arguments)

    with connection.execute_wrapper(slow):
        refusals.refresh()
    Refusal.objects.update(resolved_on=timezone.now())
    clock.now += 45
    assert not refusals.refresh()
    clock.now += 10
    assert refusals.refresh()


def test_a_settled_duplicate_is_recorded_and_not_remembered(refusals: Refusals, path: Path) -> None:
    settled = Refused(RefusalReason.DUPLICATE, "same", resolved_how="deleted")
    refusals.add("a", path.lstat(), settled)
    refusals.add("a", path.lstat(), settled)
    assert len(refusals) == 0
    assert Refusal.objects.filter(resolved_by="finder").count() == 2


def test_one_line_in_the_log(
    refusals: Refusals, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        refusals.add("a\nb", path.lstat(), LASTING)
    assert [record.getMessage() for record in caplog.records] == [r"CONFLICT a\x0ab: same name"]


def test_times_beyond_the_calendar(refusals: Refusals, path: Path) -> None:
    os.utime(path, (1e15, 1e12))
    refusals.add("a", path.lstat(), LASTING)
    assert Refusal.objects.get().path == "a"


def test_names_that_are_no_text(refusals: Refusals, path: Path) -> None:
    refusals.add("a\udcff", path.lstat(), LASTING)
    assert refusals.stands("a\udcff", path.lstat())
    assert Refusal.objects.get().path == r"a\udcff"


def test_missing(refusals: Refusals, clock: Clock) -> None:
    gone = Refused(RefusalReason.VANISHED, "not there")
    for _ in range(3):
        refusals.missing("a", gone)
    assert Refusal.objects.get().times_seen == 1
    clock.now += 10
    refusals.missing("a", gone)
    assert Refusal.objects.get().times_seen == 2
    refusals.resolve_missing("a")
    assert Refusal.objects.get().resolved_on is not None


def test_together_or_not_at_all(refusals: Refusals, path: Path) -> None:
    refusals.add("known", path.lstat(), PASSING)
    two = [("a", path.lstat(), LASTING), ("known", path.lstat(), LASTING)]

    def fail(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith("INSERT"):
            raise OperationalError("away")
        return execute(sql, *arguments)

    with pytest.raises(OperationalError), connection.execute_wrapper(fail):
        refusals.add_all(two)
    assert Refusal.objects.get().reason == PASSING.reason
    assert not refusals.stands("a", path.lstat())
    assert refusals.reason("known") == PASSING.reason
    assert [row.path for row in Refusal.objects.all()] == ["known"]
    refusals.add_all(two)
    assert refusals.stands("a", path.lstat())
    assert Refusal.objects.filter(path="a").exists()
    assert Refusal.objects.get(path="known").times_seen == 2


def test_many_at_once(
    refusals: Refusals, path: Path, django_assert_max_num_queries: object
) -> None:
    batch = [(f"{n}", path.lstat(), LASTING) for n in range(300)]
    # SQLite takes some 50 rows in a statement.
    with django_assert_max_num_queries(3 + 300 // 50):  # type: ignore[operator]
        refusals.add_all(batch)
    assert len(refusals) == Refusal.objects.unresolved().count() == 300
    assert all(refusals.stands(name, stat) for name, stat, _ in batch)


def test_one_that_a_person_closed_meanwhile_is_a_new_one(refusals: Refusals, path: Path) -> None:
    refusals.add("a", path.lstat(), PASSING)

    def close(execute: Any, sql: str, *arguments: Any) -> Any:
        found = execute(sql, *arguments)
        if sql.startswith("SELECT"):
            with connection.cursor() as cursor:
                cursor.execute("UPDATE buffer_refusal SET resolved_on = CURRENT_TIMESTAMP")
        return found

    with connection.execute_wrapper(close):
        refusals.add("a", path.lstat(), PASSING)
    assert [row.times_seen for row in Refusal.objects.order_by("id")] == [1, 1]
    assert Refusal.objects.unresolved().count() == 1
