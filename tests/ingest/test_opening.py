"""Every stored file is opened once at every ingester that reads its storage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from buffer.models import File, Storage
from ingest import opening, transitions
from ingest.models import Ingester, Ingestion
from ingest.opening import Opener
from ingest.statuses import Status

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]


def opened(ingester: Ingester) -> list[int]:
    rows = Ingestion.objects.filter(ingester=ingester, status=Status.UNTRIED)
    return list(rows.order_by("file_id").values_list("file_id", flat=True))


def test_opens_what_is_stored(ingester: Ingester, make_file: MakeFile) -> None:
    files = [make_file() for _ in range(3)]
    opener = Opener(ingester, "w")
    assert opener.has_new()
    assert opener.step() == 3
    assert opener.step() == 0
    assert not opener.has_new()
    assert opened(ingester) == [f.pk for f in files]


def test_goes_on_where_an_earlier_run_ended(ingester: Ingester, make_file: MakeFile) -> None:
    make_file()
    Opener(ingester, "w").step()
    new = make_file()
    ingester.refresh_from_db()
    assert ingester.watermark == new.pk - 1
    assert Opener(ingester, "w").step() == 1


def test_does_not_pass_a_take_in_under_way(ingester: Ingester, make_file: MakeFile) -> None:
    first, intent, last = make_file(), make_file(stored_on=None), make_file()
    opener = Opener(ingester, "w")
    assert opener.step() == 1
    assert opened(ingester) == [first.pk]
    assert opener.step() == 0
    File.objects.filter(pk=intent.pk).update(stored_on=timezone.now())
    assert opener.step() == 2
    assert opened(ingester) == [first.pk, intent.pk, last.pk]


def test_a_dead_intent_holds_nobody_up_for_ever(ingester: Ingester, make_file: MakeFile) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    dead = make_file(stored_on=None, added_on=long_ago)
    alive = make_file()
    opener = Opener(ingester, "w")
    opener.step()
    assert opened(ingester) == [alive.pk]
    File.objects.filter(pk=dead.pk).update(stored_on=timezone.now())
    assert opener.sweep() == 1


def test_sweep_finds_what_was_committed_late(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids are given out before their rows can be seen."""
    for name in ("SLICE", "NEWEST", "OLDER"):
        monkeypatch.setattr(opening, name, 3)
    files = [make_file() for _ in range(12)]
    late = [files[1].pk, files[10].pk]
    File.objects.filter(pk__in=late).update(stored_on=None, added_on=timezone.now() - timedelta(1))
    opener = Opener(ingester, "w")
    while opener.step():
        pass
    File.objects.filter(pk__in=late).update(stored_on=timezone.now())
    found = [opener.sweep() for _ in range(5)]
    assert found[0] == 1, "the newest are looked at first"
    assert sum(found) == 2
    assert len(opened(ingester)) == 12


def test_what_is_a_minute_late_is_found_at_any_rate_of_arrivals(
    ingester: Ingester, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ids were given out since; and the slow pass is far away."""
    for name in ("SLICE", "NEWEST", "OLDER"):
        monkeypatch.setattr(opening, name, 3)
    late = make_file(stored_on=None, added_on=timezone.now() - timedelta(1))
    clock = 0.0
    opener = Opener(ingester, "w", steady=lambda: clock)
    for _ in range(12):
        for _ in range(8):
            make_file()
        while opener.step():
            pass
        assert opener.sweep() == 0
        clock += 5.0
    File.objects.filter(pk=late.pk).update(stored_on=timezone.now())
    monkeypatch.setattr(opener, "_older", 10**6)
    assert opener.sweep() == 1
    assert late.pk in opened(ingester)


def test_a_wide_gap_between_ids_costs_a_late_look_nothing(
    ingester: Ingester, make_file: MakeFile, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    clock = 0.0
    opener = Opener(ingester, "w", steady=lambda: clock)
    make_file()
    make_file(pk=10**12)
    while opener.step():
        pass
    opener.sweep()
    clock += opening.LATE_S
    with django_assert_max_num_queries(20):
        opener.sweep()


def test_files_of_other_storages_are_not_touched(
    ingester: Ingester, make_file: MakeFile, tmp_path: Path
) -> None:
    other = Storage.objects.create(name="others", root=str(tmp_path))
    make_file(storage=other)
    mine = make_file()
    Opener(ingester, "w").step()
    assert opened(ingester) == [mine.pk]


def test_backfilled_files_are_left_as_they_are(ingester: Ingester, make_file: MakeFile) -> None:
    file = make_file()
    transitions.create(ingester.pk, [file.pk], Status.BACKFILL)
    Opener(ingester, "w").step()
    assert Ingestion.objects.get().status == Status.BACKFILL


def test_files_of_others_and_gaps_do_not_end_it(
    ingester: Ingester, make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that opens nothing is not the last one."""
    monkeypatch.setattr(opening, "SLICE", 2)
    other = Storage.objects.create(name="others", root=str(tmp_path))
    top = max(make_file(storage=other).pk for _ in range(4))
    mine = make_file(pk=top + 100_000)
    opener = Opener(ingester, "w")
    steps = 0
    while opener.step():
        steps += 1
    assert steps == 3
    assert opened(ingester) == [mine.pk]


def test_an_idle_look_is_one_query(
    ingester: Ingester, make_file: MakeFile, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_file()
    opener = Opener(ingester, "w")
    opener.step()
    with django_assert_num_queries(1):
        assert not opener.has_new()
