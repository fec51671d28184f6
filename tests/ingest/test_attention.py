"""What needs a person, and the page that answers it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from buffer import operator_pauses
from buffer.counting import CAP, counted
from buffer.models import (
    Alert,
    Component,
    ComponentKind,
    File,
    FindingKind,
    Refusal,
    RefusalReason,
    Suspicion,
)
from buffer.operator_pauses import Pausable
from ingest import attention, ignoring, transitions
from ingest.attention import needs
from ingest.models import Breaker, Ingester, Ingestion
from ingest.overview import overview
from ingest.status_page import page
from ingest.statuses import Status
from ingest.transitions import Step
from tests.plans import plans_of

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


def fail(ingester: Ingester, file: File, cause: str, status: Status = Status.FAILURE) -> None:
    transitions.create(ingester.pk, [file.pk], Status.UNTRIED)
    row = Ingestion.objects.get(ingester=ingester, file=file)
    assert transitions.apply(
        ingester.pk, [Step(row.pk, file.pk, Status.UNTRIED, None, status, 1, cause=cause)]
    )


def words() -> list[tuple[str, int | None]]:
    return [(need.word, need.count) for need in needs(overview(at_a_glance=True))]


def test_nothing(ingester: Ingester, make_file: MakeFile) -> None:
    assert words() == []
    Component.objects.create(kind="ingester", subject=ingester.name, host="a", pid=1)
    make_file()
    assert words() == [], "files wait, and somebody works"


def test_everything_leads_to_its_page(
    ingester: Ingester, make_file: MakeFile, admin_client: Client
) -> None:
    now = timezone.now()
    files = [make_file(filename=f"x{n}.fits") for n in range(6)]
    for file, cause in zip(files, ("flat", "flat", "flat", "dark", ""), strict=False):
        fail(ingester, file, cause)
    fail(ingester, files[5], "who knows", Status.UNKNOWN)
    make_file(filename="waits.fits")
    Breaker.objects.create(ingester=ingester, message="down", opened_on=now, probe_on=now)
    Component.objects.create(kind="finder", subject="/b", host="a", pid=1, message="disk is full")
    Component.objects.create(
        kind="audit", subject="s", host="a", pid=2, seen_on=now - timedelta(minutes=9)
    )
    Refusal.objects.create(
        storage=ingester.storage, source="/b", path="clash", key="k", reason=RefusalReason.CONFLICT
    )
    Refusal.objects.create(
        storage=ingester.storage, source="/b", path="was", key="o", reason=RefusalReason.EIO,
        resolved_on=now,
    )  # fmt: skip
    Suspicion.objects.create(file=files[0], kind=FindingKind.CHANGED)
    found = needs(overview(at_a_glance=True))
    assert [(need.word, need.count) for need in found] == [
        ("paused", None), ("stopped", 1), ("silent", None), ("waits", None), ("CHANGED", 1),
        ("CONFLICT", 1), ("FAILURE", 3), ("FAILURE", 1), ("FAILURE", 1), ("UNKNOWN", 1),
    ]  # fmt: skip
    names = {
        "CHANGED": ["x0"],
        "CONFLICT": ["clash"],
        "flat": ["x0", "x1", "x2"],
        "dark": ["x3"],
        "no reason was given": ["x4"],
        "who knows": ["x5"],
    }
    for need in found:
        response = admin_client.get(need.link)
        assert response.status_code == 200, need.link
        text = response.content.decode()
        wanted = names.get(need.word) or names.get(need.text.rpartition(": ")[2])
        if wanted is not None:
            shown = [n for n in ("clash", "was", *(f"x{n}" for n in range(6))) if f"{n}.f" in text]
            assert shown or need.word == "CONFLICT"
            assert all(name in text for name in wanted)
            assert set(shown) <= set(wanted), need


def test_an_ignored_cause_calls_for_nobody(ingester: Ingester, make_file: MakeFile) -> None:
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    fail(ingester, make_file(), "flat")
    fail(ingester, make_file(), "dark")
    fail(other, make_file(), "flat")
    ignoring.ignore(ingester, "flat", user="ann", note="known")
    found = sorted(need.text for need in attention.causes(overview(at_a_glance=True)))
    assert found == sorted([f"{ingester.name}: dark", "other: flat"])


def fail_many(ingester: Ingester, number: int, cause: str) -> None:
    """Let files have failed lately; no history is written."""
    made = File.objects.bulk_create(
        File(storage=ingester.storage, relpath=str(number), filename=f"{cause}-{n}", checksum="c",
             size_bytes=1, checksum_algorithm="md5", stored_on=timezone.now())
        for n in range(number)
    )  # fmt: skip
    Ingestion.objects.bulk_create(
        Ingestion(file=file, ingester=ingester, status=Status.FAILURE, cause=cause) for file in made
    )
    Ingester.objects.update(watermark=made[-1].pk)


def test_what_ignored_causes_hide(ingester: Ingester, make_file: MakeFile) -> None:
    """Very many are ignored; the others are older, and counted, not guessed from a difference."""
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    for cause in ("a", "known", "z"):
        fail(ingester, make_file(), cause)
    fail(other, make_file(), "known")
    for cause in ("known", "known too"):
        fail_many(ingester, CAP + 10, cause)
        ignoring.ignore(ingester, cause, user="ann", note="known")
    assert [one.failed for one in overview().ingesters] == [2, 1]
    for state in (overview(), overview(at_a_glance=True)):
        assert {(need.text, need.count) for need in attention.causes(state)} == {
            (f"{ingester.name}: a", 1), (f"{ingester.name}: z", 1), ("other: known", 1),
        }  # fmt: skip


@pytest.mark.skipif(connection.vendor != "sqlite", reason="counts what SQLite does")
def test_ignored_failures_cost_nothing(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "LOOKED_AT", 50)
    monkeypatch.setattr(counted, "__defaults__", (50,))
    fail(ingester, make_file(), "dark")
    fail_many(ingester, 200, "known")
    ignoring.ignore(ingester, "known", user="ann", note="known")
    few = steps_of_sqlite()
    fail_many(ingester, 5000, "known")
    assert steps_of_sqlite() < 1.1 * few


def steps_of_sqlite() -> int:
    """Count what its virtual machine does for what needs a person."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    connection.ensure_connection()
    connection.connection.set_progress_handler(count, 1)
    try:
        needs(overview(at_a_glance=True))
    finally:
        connection.connection.set_progress_handler(None, 0)
    return steps


def test_a_cause_in_two_statuses_is_one(ingester: Ingester, make_file: MakeFile) -> None:
    fail(ingester, make_file(), "flat")
    fail(ingester, make_file(), "flat", Status.UNKNOWN)
    assert words()[-1] == ("UNKNOWN", 2)


def test_what_persons_did_and_wanted_to_know(
    ingester: Ingester, make_file: MakeFile, admin_client: Client
) -> None:
    now = timezone.now()
    finder = Component.objects.create(kind="finder", subject="/b", host="a", pid=1)
    what = (
        Pausable(ComponentKind.FINDER, "/b", "a"),
        Pausable(ComponentKind.INGESTER, ingester.name),
    )
    for each in what:
        operator_pauses.pause(each, user="ann", note="cleaning")
    # What a paused process says of itself is not told twice.
    Component.objects.filter(pk=finder.pk).update(message=operator_pauses.look(what[0]))
    Alert.objects.create(
        condition="SILENCE",
        kind="finder",
        subject="/b",
        host="a",
        raised_on=now,
        detail="since noon",
    )
    found = needs(overview(at_a_glance=True))
    assert [need.word for need in found] == ["alert", "paused", "paused"]
    assert found[0].detail == "since noon"
    for need, name in zip(found, ("since noon", "/b", ingester.name), strict=True):
        response = admin_client.get(need.link)
        assert response.status_code == 200 and name in response.content.decode(), need.link
        assert need.word == "alert" or "cleaning" in need.detail
        assert need.word == "alert" or 'value="Resume"' in response.content.decode()


def test_disks_that_are_nearly_full(ingester: Ingester) -> None:
    measures = {
        "free_bytes": {"buffer": 4, "storage": 6},
        "total_bytes": {"buffer": 100, "storage": 100},
    }
    Component.objects.create(kind="finder", subject="/b", host="a", pid=1, measures=measures)
    unknown = {"free_bytes": {"buffer": None, "storage": 0}}
    Component.objects.create(kind="finder", subject="/c", host="a", pid=2, measures=unknown)
    (need,) = needs(overview(at_a_glance=True))
    assert need.word == "full" and "buffer of finder /b" in need.text


def test_workers_that_wait_for_a_storage(ingester: Ingester) -> None:
    waits = "nothing can be ingested: the storage area is not mounted"
    for kind in ("ingester", "session", "session"):
        message = waits if kind == "session" else ""
        Component.objects.create(kind=kind, subject=ingester.name, host="a", pid=1, message=message)
    (need,) = needs(overview(at_a_glance=True))
    assert (need.word, need.detail) == ("waits", waits)
    assert need.text == f"{ingester.name}: its workers wait"
    # Its command says the same: once is enough.
    Component.objects.filter(kind="ingester").update(message=waits)
    (need,) = needs(overview(at_a_glance=True))
    assert need.text.startswith(f"ingester {ingester.name} on a")


def test_copies_of_lost_arrivals(ingester: Ingester) -> None:
    kept = [".incoming/lost-00", ".incoming/lost-\x1b"]
    Component.objects.create(kind="finder", subject="/b", host="a", pid=1, measures={"kept": kept})
    (need,) = needs(overview(at_a_glance=True))
    assert (need.word, need.count) == ("lost", 2) and "finder /b on a" in need.text
    assert need.detail == ".incoming/lost-00\n.incoming/lost-\\x1b"
    text = page(overview(), terminal=False)
    assert "is kept in the storage area as .incoming/lost-00" in text


def test_more_causes_than_are_shown(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "CAUSES", 2)
    for cause in ("a", "a", "b", "b", "c"):
        fail(ingester, make_file(), cause)
    found = needs(overview(at_a_glance=True))
    assert [need.text.rpartition(": ")[2] for need in found] == [
        "a", "b", "files of other causes failed, too",
    ]  # fmt: skip


def test_places_that_the_latest_failures_leave(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "CAUSES", 2)
    monkeypatch.setattr(attention, "LOOKED_AT", 3)
    for cause in ("a", "b", "c", "flood", "flood", "flood"):
        fail(ingester, make_file(), cause)
    found = needs(overview(at_a_glance=True))
    assert [(need.text.rpartition(": ")[2], need.count) for need in found] == [
        ("flood", 3), ("a", 1), ("files of other causes failed, too", None),
    ]  # fmt: skip


def test_an_ingester_that_is_newer_than_the_overview(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "CAUSES", 1)
    for cause in ("a", "b"):
        fail(ingester, make_file(), cause)
    state = overview(at_a_glance=True)
    other = Ingester.objects.create(name="other", storage=ingester.storage)
    for _ in range(3):
        fail(other, make_file(), "c")
    assert [need.text for need in attention.causes(state)] == [
        f"{ingester.name}: a", "files of other causes failed, too",
    ]  # fmt: skip


def test_many_causes_beside_ignored_ones(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the latest failures are of a cause that is ignored."""
    monkeypatch.setattr(attention, "CAUSES", 2)
    monkeypatch.setattr(attention, "LOOKED_AT", 6)
    for cause in ("a", "b", "b", "z", "z", "z"):
        fail(ingester, make_file(), cause)
    fail_many(ingester, 10, "known")
    ignoring.ignore(ingester, "known", user="ann", note="known")
    found = needs(overview(at_a_glance=True))
    assert [(need.text.rpartition(": ")[2], need.count) for need in found] == [
        ("z", 3), ("b", 2), ("files of other causes failed, too", None),
    ]  # fmt: skip


def test_a_glance_counts_as_the_whole_does(ingester: Ingester, make_file: MakeFile) -> None:
    Ingester.objects.create(name="idle", storage=ingester.storage)
    now = timezone.now()
    for n, status in enumerate(Status):
        age = timedelta(hours=n)
        Ingestion.objects.create(
            file=make_file(), ingester=ingester, changed_on=now - age, status=status,
            claim=None if status != Status.PENDING else "0" * 32,
            lease_until=None if status != Status.PENDING else now,
            next_attempt_on=now if status == Status.FAILURE else None,
        )  # fmt: skip
    Refusal.objects.create(
        storage=ingester.storage, source="/b", path="x", key="k", reason=RefusalReason.EIO
    )
    whole, glance = overview(), overview(at_a_glance=True)
    for everything, some in zip(whole.ingesters, glance.ingesters, strict=True):
        for name in ("waiting", "held", "retries", "oldest_waiting", "unopened"):
            assert getattr(everything, name) == getattr(some, name), name
    assert whole.refusals == glance.refusals


@pytest.mark.skipif(connection.vendor != "sqlite", reason="how SQLite goes about it")
@pytest.mark.parametrize("most", [1, 0], ids=["few causes", "many causes"])
def test_nothing_is_read_as_a_whole(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(attention, "CAUSES", most)
    fail(ingester, make_file(), "flat")
    with plans_of("ingest_ingestion") as plans:
        needs(overview(at_a_glance=True))
    assert len(plans) > 8
    assert not [plan for plan in plans if "SCAN ingest_ingestion;" in f"{plan};"], plans
    for index in ("waiting", "claimed", "due", "causes", "listed" if most else "troubled"):
        assert any(f"ingest_ingestion_{index}" in plan for plan in plans), index
