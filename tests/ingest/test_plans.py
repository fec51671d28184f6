"""What the loops of an ingester ask of big tables: by an index, few rows, few queries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from buffer import dialect
from buffer.models import Storage
from ingest import claims, ledger, opening, pace, sweeping
from ingest.config import IngesterSection
from ingest.models import Ingester
from ingest.opening import Opener
from ingest.targets import Run
from ingest.worker import Worker

pytestmark = pytest.mark.django_db

FILES = 20_000
WAITING = 400


@contextmanager
def looked_at() -> Iterator[dict[str, str]]:
    """Collect the plans of all statements on tables that grow; no other way than by an index."""
    plans: dict[str, str] = {}

    def explain(execute: Callable[..., Any], sql: str, params: Any, *others: Any) -> Any:
        grows = re.search(r"ingest_ingestion|ingest_fileevent|buffer_file\b", sql)
        explains = "EXPLAIN" in sql or sql.startswith("INSERT INTO ingest_fileevent")
        if grows and not explains:
            with connection.cursor() as cursor:
                if dialect.is_postgres():
                    # What one statement has set would hold for others in the test's transaction.
                    cursor.execute("SET LOCAL enable_sort = on")
                how = "EXPLAIN" if dialect.is_postgres() else "EXPLAIN QUERY PLAN"
                settings, end, statement = sql.rpartition("; ")
                cursor.execute(f"{settings}{end}{how} {statement}", params)
                plans[sql] = "\n".join(str(row[-1]) for row in cursor.fetchall())
        return execute(sql, params, *others)

    with connection.execute_wrapper(explain):
        yield plans


def whole(plan: str) -> list[str]:
    """Give the lines of a plan that go through a table that grows, or an index, from end to end."""
    tables = "ingest_ingestion|ingest_fileevent|buffer_file"
    scan = rf"Seq Scan on ({tables})\b|^SCAN ({tables})\b|Index Cond: \(status"
    # Both call it a search by an index also where they go through a whole table by its key.
    by_key = (
        r"_pkey on ingest_ingestion\b|Bitmap Index Scan on ingest_ingestion_pkey"
        r"|SEARCH ingest_ingestion USING INTEGER PRIMARY KEY"
    )
    one_by_one = r"Index Cond: \(id = |\(rowid=\?\)"
    # All files of a storage area, or all claims there were.
    area = (
        r"Index Cond: \(storage_id = \d+\)$|INDEX \w*buffer_file\w* \(storage_id=\?\)$"
        r"|Bitmap Index Scan on ingest_ingestion_claimed"
    )
    return [
        line
        for line, following in pairwise([*plan.splitlines(), ""])
        if re.search(scan, line.strip())
        or re.search(area, line.rstrip())
        or (re.search(by_key, line) and not re.search(one_by_one, line + following))
    ]


def seeks(sql: str, plan: str) -> None:
    """Check that each lane that waits by its status is looked up in its index, where it begins."""
    lanes = sql.count(claims.IN_WAITING_INDEX)
    seek = (
        r"Scan (Backward )?using ingest_ingestion_waiting on .*\n *Index Cond: .*ROW\("
        if dialect.is_postgres()
        else r"INDEX ingest_ingestion_waiting \(ingester_id=\? AND status=\? AND id>\?\)"
    )
    assert len(re.findall(seek, plan)) == lanes, f"{sql}\n{plan}"


def fill(storage: Storage, ingester: Ingester, statistics: bool) -> None:
    """Make files that were all ingested, after statistics, if any, of when all of them waited."""
    numbers = (
        f"generate_series(1, {FILES}) AS n"
        if dialect.is_postgres()
        else f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {FILES})"
        " SELECT n FROM c)"
    )
    now = dialect.now().replace("%%", "%")
    with connection.cursor() as cursor:
        for sql in (
            "INSERT INTO buffer_file (storage_id, relpath, filename, checksum, checksum_algorithm,"
            f" size_bytes, added_on, stored_on) SELECT {storage.pk}, 'night', 'f' || n, 'c' || n,"
            f" 'blake3', 1, {now}, {now} FROM {numbers}",
            "INSERT INTO ingest_fileevent (file_id, ingester_id, status, start_time, err_message,"
            ' cause, ingest_ver, worker, "user", note)'
            f" SELECT id, {ingester.pk}, 'UNTRIED', {now}, '', '', '', '', '', '' FROM buffer_file",
            "INSERT INTO ingest_ingestion (file_id, ingester_id, status, cause, attempts,"
            " changed_on, last_event_id) SELECT file_id, ingester_id, 'UNTRIED', '', 0, start_time,"
            " id FROM ingest_fileevent ORDER BY id",
            *(["ANALYZE"] if statistics else []),
            "UPDATE ingest_ingestion SET status = 'SUCCESS'"
            f" WHERE id <= (SELECT max(id) - {WAITING} FROM ingest_ingestion)",
        ):
            cursor.execute(sql)
        cursor.execute("SELECT max(id) FROM buffer_file")
        ingester.watermark = cursor.fetchone()[0]
        ingester.save()


@pytest.fixture(params=[True, False], ids=["stale", "no statistics"])
def run(storage: Storage, ingester: Ingester, request: pytest.FixtureRequest) -> Run:
    fill(storage, ingester, request.param)
    for number in range(FILES - WAITING, FILES):
        path = Path(storage.root, "night", f"f{number + 1}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    section = {"plugin": {"name": "NullIngest"}, "batch_size": 100, "retry": {}}
    return Run.begin(ingester, IngesterSection.model_validate(section))


def test_a_worker_looks_at_its_batch_only(run: Run) -> None:
    worker = Worker(run, stopping=lambda: False, beat=lambda: None)
    try:
        with looked_at() as plans:
            assert worker.step() == 100
        with looked_at() as further:
            assert worker.step() == 100
    finally:
        worker.close()
    assert len(plans) == len(further) == 3
    for sql, plan in [*plans.items(), *further.items()]:
        assert not whole(plan), f"{sql}\n{plan}"
        seeks(sql, plan)


@pytest.fixture
def one_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have outcomes written at the end of a batch only, however long it takes."""
    monkeypatch.setattr(ledger, "FLUSH_EVERY_S", 60.0)


@pytest.mark.usefixtures("one_flush")
def test_a_worker_needs_few_queries_whatever_its_batch(
    run: Run, django_assert_max_num_queries: Any
) -> None:
    worker = Worker(run, stopping=lambda: False, beat=lambda: None)
    try:
        worker.step()
        with django_assert_max_num_queries(13):
            assert worker.step() == 100
    finally:
        worker.close()


@pytest.mark.usefixtures("one_flush")
def test_a_claim_of_several_batches_costs_less_for_each(
    run: Run, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    monkeypatch.setattr(pace, "PLENTY", 1)
    monkeypatch.setattr(pace, "FEWEST_WORKERS", 1)
    section = run.section.model_copy(update={"batch_size": 20})
    worker = Worker(replace(run, section=section), stopping=lambda: False, beat=lambda: None)
    try:
        assert worker.step() == 20
        with looked_at() as plans:
            assert worker.step() == 100
        # Those of one batch, and 6 for each other one.
        with django_assert_max_num_queries(13 + 4 * 6):
            assert worker.step() == 100
    finally:
        worker.close()
    assert sum(" OFFSET " in sql for sql in plans) == 1
    for sql, plan in plans.items():
        assert not whole(plan), f"{sql}\n{plan}"
        seeks(sql, plan)


def test_an_idle_worker_asks_one_question(
    run: Run, ingester: Ingester, django_assert_num_queries: Any
) -> None:
    ingester.ingestion_set.update(status="SUCCESS")
    worker = Worker(run, stopping=lambda: False, beat=lambda: None)
    with django_assert_num_queries(1):
        assert worker.step() == 0
    with looked_at() as plans:
        assert worker.step() == 0
    ((sql, plan),) = plans.items()
    assert not whole(plan), plan
    seeks(sql, plan)


def test_a_probe_looks_at_few_files(run: Run, ingester: Ingester) -> None:
    due = timezone.now() - timedelta(hours=1)
    some = ingester.ingestion_set.order_by("-pk").values_list("pk", flat=True)[:50]
    ingester.ingestion_set.filter(pk__in=list(some)).update(status="FAILURE", next_attempt_on=due)
    with looked_at() as plans:
        for lane in run.lanes():
            claims.claim(ingester.pk, [lane], 1, "prober", anywhere=True)
    assert len(plans) >= 6
    for sql, plan in plans.items():
        assert not whole(plan), f"{sql}\n{plan}"
        if "id + 0" not in sql:
            seeks(sql, plan)


def test_new_files_are_opened_by_their_ids(
    run: Run, ingester: Ingester, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingester.ingestion_set.filter(file_id__gt=ingester.watermark - 50).delete()
    Ingester.objects.filter(pk=ingester.pk).update(watermark=ingester.watermark - 50)
    ingester.refresh_from_db()
    monkeypatch.setattr(opening, "SLICE", 200)  # as small a part as of big tables
    with looked_at() as plans:
        assert Opener(ingester, "me").step() == 50
    assert len(plans) >= 3
    for sql, plan in plans.items():
        assert not whole(plan), f"{sql}\n{plan}"


def test_the_command_looks_by_indexes(
    run: Run, ingester: Ingester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As small a part of these tables as a slice is of big ones.
    for name in ("SLICE", "NEWEST", "OLDER"):
        monkeypatch.setattr(opening, name, 200)
    opener = Opener(ingester, "me")
    sweeper = sweeping.Sweeper(ingester.pk, "me")
    sweeper.sweep()  # the first one looks for what a clock has left
    with looked_at() as plans:
        assert not opener.has_new()
        assert opener.step() == 0
        sweeper.sweep()
        opener.sweep()
        assert claims.waiting(ingester.pk, run.lanes())
        assert not claims.anything_held(ingester.pk)
        assert not claims.anything_due_later(ingester.pk, run.lanes())
    assert len(plans) >= 8
    for sql, plan in plans.items():
        assert not whole(plan), f"{sql}\n{plan}"
        seeks(sql, plan)
