"""SQL access: the views named in the YAML files, and RERUN by INSERT as the quickstart shows it."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from django.core.management import call_command
from django.db import Error, OperationalError, connection, models, transaction
from django.utils import timezone

from buffer import sqlviews as storage_views
from buffer.models import File, Storage
from ingest import sqlviews, transitions
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.statuses import Status
from tests.tools import need

pytestmark = pytest.mark.django_db

MakeFile = Callable[..., File]

# As in the quickstart, word for word.
QUICKSTART = """
      INSERT INTO gen2_file_events
      (start_time, status, files_id)
      VALUES (CURRENT_TIMESTAMP, 'RERUN', {files_id});
"""


def is_postgres() -> bool:
    return connection.vendor == "postgresql"


@pytest.fixture
def target(storage: Storage) -> Iterator[Ingester]:
    """An ingester of the quickstart's name, and the views of it and of its storage."""
    # Where a test of commands was flushed away, the view of its ingester is left.
    storage_views.drop("gen3_file_events", "ingest_fileevent")
    ingester = Ingester.objects.create(name="gen2_file_events", storage=storage)
    assert sqlviews.ensure(ingester)
    assert storage_views.ensure(storage_views.storage_view(storage))
    yield ingester
    storage_views.drop(ingester.name, "ingest_fileevent")
    storage_views.drop(storage.name, "buffer_file")


def execute(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def refused(sql: str) -> str:
    with pytest.raises(Error) as caught:
        execute(sql)
    return str(caught.value)


def ingestion(target: Ingester, file: File) -> Ingestion:
    return Ingestion.objects.get(ingester=target, file=file)


def assert_in_step() -> None:
    for row in Ingestion.objects.all():
        newest = FileEvent.objects.filter(file=row.file_id, ingester=row.ingester_id).latest("id")
        assert (row.status, row.last_event_id) == (newest.status, newest.pk)


def outside(sql: str, **session: str) -> None:
    """Run SQL as an operator does: another connection, with none of Django's settings."""
    if is_postgres():
        with closing(raw()) as other, other.cursor() as cursor:
            for name, value in session.items():
                cursor.execute(f"SET {name} = {value}")
            cursor.execute(sql)
            other.commit()
    else:
        with closing(sqlite3.connect(connection.settings_dict["NAME"])) as other:
            assert other.execute("PRAGMA foreign_keys").fetchone() == (0,)
            other.executescript(sql)


def raw() -> Any:
    parameters = connection.get_connection_params()
    names = ("dbname", "user", "password", "host", "port")
    return psycopg2.connect(**{k: v for k, v in parameters.items() if k in names})


@pytest.mark.django_db(transaction=True)
def test_the_statement_of_the_quickstart(target: Ingester, make_file: MakeFile) -> None:
    file = make_file()
    transitions.create(target.pk, [file.pk], Status.UNTRIED)
    row = ingestion(target, file)
    failed = transitions.Step(
        row.pk, file.pk, Status.UNTRIED, None, Status.FAILURE, 3,
        cause="c", next_attempt_on=timezone.now(),
    )  # fmt: skip
    transitions.apply(target.pk, [failed])

    outside(QUICKSTART.format(files_id=file.pk))

    row = ingestion(target, file)
    assert (row.status, row.attempts, row.cause) == (Status.RERUN, 0, "")
    assert row.next_attempt_on is None and row.claim is None
    assert abs(row.changed_on - timezone.now()) < timedelta(minutes=1)
    event = FileEvent.objects.latest("id")
    assert (event.status, event.note) == (Status.RERUN, "asked for by SQL")
    assert abs(event.start_time - timezone.now()) < timedelta(minutes=1)
    assert_in_step()


@pytest.mark.django_db(transaction=True)
def test_from_the_usual_clients(target: Ingester, make_file: MakeFile) -> None:
    """The programs psql and sqlite3, as a person would use them."""
    file = make_file()
    statement = QUICKSTART.format(files_id=file.pk)
    settings = connection.settings_dict
    if is_postgres():
        host, port = settings["HOST"] or "127.0.0.1", str(settings["PORT"] or 5432)
        command = [need("psql"), "-X", "-h", host, "-p", port, "-U", settings["USER"], "-v",
                   "ON_ERROR_STOP=1", settings["NAME"]]  # fmt: skip
    else:
        command = [need("sqlite3"), "-bail", str(settings["NAME"])]
    done = subprocess.run(command, input=statement, text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert ingestion(target, file).status == Status.RERUN
    assert_in_step()


@pytest.mark.django_db(transaction=True)
def test_a_rollback_takes_back_both(target: Ingester, make_file: MakeFile) -> None:
    file = make_file()
    outside(f"BEGIN; {QUICKSTART.format(files_id=file.pk)} ROLLBACK;")
    assert not FileEvent.objects.exists() and not Ingestion.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_whatever_the_search_path(target: Ingester, make_file: MakeFile) -> None:
    if not is_postgres():
        pytest.skip("SQLite has no schemas")
    file = make_file()
    sql = QUICKSTART.format(files_id=file.pk).replace("gen2_file", "public.gen2_file")
    outside(sql, search_path="pg_catalog")
    assert ingestion(target, file).status == Status.RERUN


def test_several_rows_at_once(target: Ingester, make_file: MakeFile) -> None:
    files = [make_file() for _ in range(5)]
    rows = ", ".join(f"(CURRENT_TIMESTAMP, 'RERUN', {file.pk})" for file in files)
    execute(f"INSERT INTO gen2_file_events (start_time, status, files_id) VALUES {rows}")
    assert [ingestion(target, file).status for file in files] == [Status.RERUN] * 5
    execute(
        "INSERT INTO gen2_file_events (start_time, status, files_id)"
        " SELECT CURRENT_TIMESTAMP, 'RERUN', id FROM files WHERE relpath = '2026-11-23'"
    )
    assert FileEvent.objects.count() == 10
    assert_in_step()


def test_one_bad_row_refuses_all(target: Ingester, make_file: MakeFile) -> None:
    file = make_file()
    refused(
        "INSERT INTO gen2_file_events (start_time, status, files_id) VALUES"
        f" (CURRENT_TIMESTAMP, 'RERUN', {file.pk}), (CURRENT_TIMESTAMP, 'RERUN', 999999)"
    )
    assert not FileEvent.objects.exists() and not Ingestion.objects.exists()


def test_a_file_that_is_being_ingested_is_refused(target: Ingester, make_file: MakeFile) -> None:
    file = make_file()
    transitions.create(target.pk, [file.pk], Status.UNTRIED)
    lease = timezone.now() + timedelta(minutes=1)
    Ingestion.objects.update(claim=uuid.uuid4(), lease_until=lease)
    assert "being ingested right now" in refused(QUICKSTART.format(files_id=file.pk))
    assert ingestion(target, file).status == Status.UNTRIED
    assert FileEvent.objects.count() == 1


@pytest.mark.parametrize("status", ["'SUCCESS'", "'PENDING'", "'rerun'", "'RERUN '", "''", "NULL"])
def test_other_statuses_are_refused(target: Ingester, make_file: MakeFile, status: str) -> None:
    sql = QUICKSTART.format(files_id=make_file().pk).replace("'RERUN'", status)
    assert "only events with status RERUN" in refused(sql)
    assert not FileEvent.objects.exists()


def test_files_that_are_not_there_are_refused(
    target: Ingester, make_file: MakeFile, tmp_path: Any
) -> None:
    elsewhere = Storage.objects.create(name="elsewhere", root=str(tmp_path))
    foreign, coming = make_file(storage=elsewhere), make_file(stored_on=None)
    for files_id in (999999, foreign.pk, coming.pk, "NULL", -1):
        assert "no file with this files_id" in refused(QUICKSTART.format(files_id=files_id))
    assert not FileEvent.objects.exists()


@pytest.mark.parametrize(
    "time",
    ["'yesterday noon'", "''", "'7'", "'0000-01-01'", "'10000-01-01'", "'2026-13-01'",
     "'infinity'", "'4713-01-01 BC'"],
)  # fmt: skip
def test_garbage_for_a_time_is_refused(target: Ingester, make_file: MakeFile, time: str) -> None:
    """It would make every page and program fail that reads the event."""
    sql = QUICKSTART.format(files_id=make_file().pk).replace("CURRENT_TIMESTAMP", time)
    refused(sql)
    assert not FileEvent.objects.exists() and not Ingestion.objects.exists()


@pytest.mark.parametrize("time", ["7", "2460000.5"])
def test_a_number_for_a_time_is_refused(target: Ingester, make_file: MakeFile, time: str) -> None:
    sql = QUICKSTART.format(files_id=make_file().pk).replace("CURRENT_TIMESTAMP", time)
    refused(sql)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("'2026-11-23 04:05:06'", datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)),
        ("'2026-11-23 04:05:06.789'", datetime(2026, 11, 23, 4, 5, 6, 789000, tzinfo=UTC)),
        ("'2026-11-23T04:05:06+02:00'", datetime(2026, 11, 23, 2, 5, 6, tzinfo=UTC)),
        ("'2026-11-23'", datetime(2026, 11, 23, tzinfo=UTC)),
        ("NULL", None),
    ],
)
def test_times(target: Ingester, make_file: MakeFile, time: str, expected: datetime | None) -> None:
    execute(QUICKSTART.format(files_id=make_file().pk).replace("CURRENT_TIMESTAMP", time))
    found = FileEvent.objects.get().start_time
    if expected is None:
        assert abs(found - timezone.now()) < timedelta(minutes=1)
    else:
        assert found == expected


def test_only_what_is_needed(target: Ingester, make_file: MakeFile) -> None:
    file = make_file()
    execute(f"INSERT INTO gen2_file_events (status, files_id) VALUES ('RERUN', {file.pk})")
    assert_in_step()
    # What else is given says nothing about what happened, and is not believed.
    execute(
        "INSERT INTO gen2_file_events (id, ingest_ver, duration, err_message, status, files_id)"
        f" VALUES (1, 'v9', 5, 'no', 'RERUN', {file.pk})"
    )
    event = FileEvent.objects.latest("id")
    assert (event.pk > 1, event.ingest_ver, event.err_message) == (True, "", "")
    assert_in_step()


@pytest.mark.parametrize("policy", ["REPLACE", "IGNORE", "ROLLBACK", "FAIL"])
def test_conflict_policies_of_sqlite(target: Ingester, make_file: MakeFile, policy: str) -> None:
    """SQLite applies the policy of the outer statement within triggers, too."""
    if is_postgres():
        pytest.skip("SQLite only")
    file, other = make_file(), make_file()
    transitions.create(target.pk, [file.pk, other.pk], Status.UNTRIED)
    before = ingestion(target, file).pk
    insert = QUICKSTART.replace("INSERT", f"INSERT OR {policy}")
    execute(insert.format(files_id=file.pk))
    assert ingestion(target, file).pk == before
    assert ingestion(target, file).status == Status.RERUN
    assert_in_step()
    lease = timezone.now() + timedelta(minutes=1)
    Ingestion.objects.update(claim=uuid.uuid4(), lease_until=lease)
    events = FileEvent.objects.count()
    if policy != "ROLLBACK":
        refused(insert.format(files_id=other.pk))
        assert FileEvent.objects.count() == events


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE gen2_file_events SET status = 'SUCCESS'",
        "DELETE FROM gen2_file_events",
        "UPDATE files SET checksum = 'x'",
        "DELETE FROM files",
        "INSERT INTO files (relpath, filename, checksum, size_bytes) VALUES ('', 'x', 'y', 1)",
    ],
)
def test_nothing_else_can_be_written(target: Ingester, make_file: MakeFile, sql: str) -> None:
    file = make_file()
    execute(QUICKSTART.format(files_id=file.pk))
    refused(sql)
    assert FileEvent.objects.get().status == Status.RERUN
    assert File.objects.get().checksum == file.checksum


def test_what_the_views_show(target: Ingester, make_file: MakeFile) -> None:
    file, _ = make_file(), make_file(stored_on=None)
    other = Ingester.objects.create(name="other", storage=target.storage)
    transitions.create(target.pk, [file.pk], Status.UNTRIED)
    transitions.create(other.pk, [file.pk], Status.BACKFILL)
    assert execute("SELECT id, relpath, filename, checksum, size_bytes FROM files") == [
        (file.pk, file.relpath, file.filename, file.checksum, file.size_bytes)
    ]
    assert len(execute("SELECT added_on FROM files")) == 1
    assert execute(
        "SELECT status, files_id, ingest_ver, duration, err_message FROM gen2_file_events"
    ) == [("UNTRIED", file.pk, "", None, "")]


def test_making_a_view_again_does_nothing(target: Ingester) -> None:
    assert sqlviews.ensure(target)
    assert storage_views.ensure(storage_views.storage_view(target.storage))


def test_a_view_that_was_left_behind_is_replaced(target: Ingester, make_file: MakeFile) -> None:
    """After `manage.py flush` the same names get new ids."""
    file = make_file()
    target.delete()
    fresh = Ingester.objects.create(name=target.name, storage=target.storage)
    assert fresh.pk != target.pk or not is_postgres()
    assert sqlviews.ensure(fresh)
    execute(QUICKSTART.format(files_id=file.pk))
    assert ingestion(fresh, file).status == Status.RERUN
    storage_views.drop(fresh.name, "ingest_fileevent")


def test_names_with_capitals(storage: Storage, make_file: MakeFile) -> None:
    ingester = Ingester.objects.create(name="Gen2_File_Events", storage=storage)
    assert sqlviews.ensure(ingester)
    file = make_file()
    sql = QUICKSTART.format(files_id=file.pk).replace("gen2_file_events", '"Gen2_File_Events"')
    execute(sql)
    assert ingestion(ingester, file).status == Status.RERUN
    refused("UPDATE \"Gen2_File_Events\" SET status = 'X'")
    storage_views.drop(ingester.name, "ingest_fileevent")
    refused(sql)


def test_a_table_of_the_older_system_is_left_alone(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    execute("CREATE TABLE files (id integer, filename text)")
    execute("INSERT INTO files VALUES (1, 'old')")
    assert not storage_views.ensure(storage_views.storage_view(storage))
    assert "the name files in the database belongs to a table" in caplog.text
    assert "Choose another name" in caplog.text
    storage_views.drop("files", "buffer_file")
    assert execute("SELECT * FROM files") == [(1, "old")]


def test_without_the_right_to_make_views(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    if not is_postgres():
        pytest.skip("SQLite has no rights")
    ingester = Ingester.objects.create(name="gen2_file_events", storage=storage)
    role = f"clerk_{uuid.uuid4().hex[:8]}"
    # All of it is rolled back with the test.
    execute(f"CREATE ROLE {role}; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
    execute(f"SET LOCAL ROLE {role}")
    try:
        assert not sqlviews.ensure(ingester)
        assert not storage_views.ensure(storage_views.storage_view(storage))
        # Everything else goes on in the same transaction.
        assert Ingester.objects.get() == ingester
    finally:
        execute("RESET ROLE")
    assert "cannot make the view gen2_file_events" in caplog.text
    assert "permission denied" in caplog.text
    assert "Grant this database user CREATE" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_migration_that_rebuilds_the_tables(target: Ingester, make_file: MakeFile) -> None:
    """SQLite makes a new table for almost every change; PostgreSQL minds a column's type."""
    file = make_file()
    execute(QUICKSTART.format(files_id=file.pk))
    for model, name in ((File, "checksum"), (FileEvent, "ingest_ver")):
        old = model._meta.get_field(name)
        new = models.CharField(max_length=1000)
        new.set_attributes_from_name(name)
        new.model = model
        if is_postgres():
            # SQLite refuses too, but its half-made table spoils the connection for this test.
            with pytest.raises(Error), connection.schema_editor() as editor:
                editor.alter_field(model, old, new)
        sqlviews.before_migrate("default", plan=["a migration"])
        storage_views.before_migrate("default", plan=["a migration"])
        with connection.schema_editor() as editor:
            editor.alter_field(model, old, new)
        with connection.schema_editor() as editor:
            editor.alter_field(model, new, old)
        storage_views.after_migrate("default")
        sqlviews.after_migrate("default")
    execute(QUICKSTART.format(files_id=file.pk))
    assert FileEvent.objects.count() == 2
    assert_in_step()


@pytest.mark.django_db(transaction=True)
def test_migrate_keeps_the_views(target: Ingester, make_file: MakeFile) -> None:
    file = make_file()
    call_command("migrate", verbosity=0)
    execute(QUICKSTART.format(files_id=file.pk))
    sqlviews.before_migrate("default")
    refused(QUICKSTART.format(files_id=file.pk))
    sqlviews.after_migrate("default")
    execute(QUICKSTART.format(files_id=file.pk))


def test_rights_on_the_views_survive_a_migrate_without_migrations(target: Ingester) -> None:
    sqlviews.before_migrate("default", plan=[])
    storage_views.before_migrate("default", plan=[])
    assert execute("SELECT count(*) FROM gen2_file_events") == [(0,)]
    assert execute("SELECT count(*) FROM files") == [(0,)]


def test_a_view_that_others_depend_on_is_a_warning(
    target: Ingester, caplog: pytest.LogCaptureFixture
) -> None:
    if not is_postgres():
        pytest.skip("SQLite does not mind")
    execute("CREATE VIEW report AS SELECT count(*) FROM files")
    storage_views.before_migrate("default", plan=["a migration"])
    assert "cannot drop the view" in caplog.text
    assert "drop it by hand" in caplog.text
    assert execute("SELECT * FROM report") == [(0,)]


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_is_cut_is_no_missing_right(storage: Storage) -> None:
    """Whoever starts the component again gets the view, too."""
    if not is_postgres():
        pytest.skip("SQLite has no connections to cut")
    ingester = Ingester.objects.create(name="gen2_file_events", storage=storage)

    def cut(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
        if sql.startswith("CREATE VIEW"):
            sql = f"SELECT pg_terminate_backend(pg_backend_pid()); {sql}"
        return execute(sql, *args)

    with pytest.raises(OperationalError), connection.execute_wrapper(cut):
        sqlviews.ensure(ingester)
    assert sqlviews.ensure(ingester)
    storage_views.drop(ingester.name, "ingest_fileevent")


@pytest.mark.django_db(transaction=True)
def test_components_that_start_together(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    """All want the function and the views of their own and of their common storage.

    That of the storage is left over from before a flush: whoever comes first replaces it.
    """
    assert storage_views.ensure(
        storage_views.storage_view(Storage(name=storage.name, pk=storage.pk + 1000))
    )
    ingesters = [Ingester.objects.create(name=f"events_{n}", storage=storage) for n in range(4)]
    start = threading.Barrier(len(ingesters) * 2)

    def ensure(ingester: Ingester) -> bool:
        try:
            start.wait(timeout=20)
            made = storage_views.ensure(storage_views.storage_view(storage))
            return sqlviews.ensure(ingester) and made
        finally:
            connection.close()

    with ThreadPoolExecutor(len(ingesters) * 2) as pool:
        assert all(pool.map(ensure, ingesters * 2))
    assert caplog.text == ""
    for ingester in ingesters:
        storage_views.drop(ingester.name, "ingest_fileevent")
    storage_views.drop(storage.name, "buffer_file")
