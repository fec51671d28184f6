"""The view of an ingester's events, into which operators insert RERUN by SQL.

``INSERT INTO gen2_file_events (start_time, status, files_id) VALUES (CURRENT_TIMESTAMP, 'RERUN',
7)`` works as the quickstart shows it: a trigger records the event and updates the file's current
state in the same transaction, exactly as `ingest.transitions` does, and refuses what must not be.
"""

from __future__ import annotations

from typing import Any

from django.db import connections

from buffer import sqlviews
from ingest.models import Ingester

_ONLY_RERUN = "only events with status RERUN can be inserted; the ingester records the others"
_NO_FILE = "no file with this files_id is stored in the storage area that this ingester reads"
_CLAIMED = "this file is being ingested right now; ask again when the attempt is over"

_NO_TIME = "start_time must be a time such as CURRENT_TIMESTAMP, or be left out"

# The tables are found whatever the search path of whoever inserts.
_POSTGRES_FUNCTION = f"""
CREATE OR REPLACE FUNCTION ingest_rerun_by_sql() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $body$
DECLARE
    target bigint := TG_ARGV[0]::bigint;
    held uuid;
    event bigint;
BEGIN
    IF NEW.status IS DISTINCT FROM 'RERUN' THEN
        RAISE EXCEPTION '{_ONLY_RERUN}';
    END IF;
    IF NEW.start_time NOT BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00' THEN
        RAISE EXCEPTION '{_NO_TIME}';
    END IF;
    PERFORM 1 FROM buffer_file f JOIN ingest_ingester g ON g.storage_id = f.storage_id
        WHERE g.id = target AND f.id = NEW.files_id AND f.stored_on IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION '{_NO_FILE}';
    END IF;
    INSERT INTO ingest_ingestion
        (file_id, ingester_id, status, cause, attempts, changed_on)
        VALUES (NEW.files_id, target, 'RERUN', '', 0, statement_timestamp())
        ON CONFLICT (file_id, ingester_id) DO NOTHING;
    SELECT claim INTO held FROM ingest_ingestion
        WHERE file_id = NEW.files_id AND ingester_id = target FOR UPDATE;
    IF held IS NOT NULL THEN
        RAISE EXCEPTION '{_CLAIMED}';
    END IF;
    event := nextval(pg_get_serial_sequence('ingest_fileevent', 'id'));
    UPDATE ingest_ingestion
        SET status = 'RERUN', cause = '', attempts = 0, next_attempt_on = NULL,
            changed_on = statement_timestamp(), last_event_id = event
        WHERE file_id = NEW.files_id AND ingester_id = target;
    INSERT INTO ingest_fileevent
        (id, file_id, ingester_id, status, start_time, err_message, cause, ingest_ver, worker,
         "user", note)
        VALUES (event, NEW.files_id, target, 'RERUN', COALESCE(NEW.start_time, now()), '', '',
                '', '', current_user, 'asked for by SQL');
    NEW.id := event;
    RETURN NEW;
END
$body$"""

_SQLITE_TRIGGER = """
CREATE TRIGGER "{name}_insert" INSTEAD OF INSERT ON "{name}" BEGIN
    SELECT RAISE(ABORT, '{only_rerun}') WHERE NEW.status IS NOT 'RERUN';
    SELECT RAISE(ABORT, '{no_time}') WHERE NEW.start_time IS NOT NULL AND (
        NEW.start_time NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'
        OR COALESCE(strftime('%Y', NEW.start_time) NOT BETWEEN '0001' AND '9999', 1));
    SELECT RAISE(ABORT, '{no_file}') WHERE NOT EXISTS (
        SELECT 1 FROM buffer_file f JOIN ingest_ingester g ON g.storage_id = f.storage_id
        WHERE g.id = {target} AND f.id = NEW.files_id AND f.stored_on IS NOT NULL);
    SELECT RAISE(ABORT, '{claimed}') WHERE EXISTS (
        SELECT 1 FROM ingest_ingestion
        WHERE file_id = NEW.files_id AND ingester_id = {target} AND claim IS NOT NULL);
    INSERT INTO ingest_fileevent
        (file_id, ingester_id, status, start_time, err_message, cause, ingest_ver, worker,
         "user", note)
        VALUES (NEW.files_id, {target}, 'RERUN',
                COALESCE(strftime('%Y-%m-%d %H:%M:%f', NEW.start_time),
                         strftime('%Y-%m-%d %H:%M:%f', 'now')),
                '', '', '', '', '', 'asked for by SQL');
    INSERT INTO ingest_ingestion
        (file_id, ingester_id, status, cause, attempts, changed_on, last_event_id)
        VALUES (NEW.files_id, {target}, 'RERUN', '', 0, strftime('%Y-%m-%d %H:%M:%f', 'now'),
                (SELECT MAX(id) FROM ingest_fileevent WHERE file_id = NEW.files_id))
        ON CONFLICT (file_id, ingester_id) DO UPDATE
        SET status = 'RERUN', cause = '', attempts = 0, next_attempt_on = NULL,
            changed_on = excluded.changed_on, last_event_id = excluded.last_event_id;
END"""


def ingester_view(ingester: Ingester, vendor: str) -> sqlviews.View:
    """Give the view of one ingester's events, with the columns of the quickstart's table.

    Parameters
    ----------
    ingester : `Ingester`
        Whose events.
    vendor : `str`
        Django's name of the kind of database.
    """
    name, target = ingester.name, ingester.pk
    if vendor == "postgresql":
        extras = [
            _POSTGRES_FUNCTION,
            f'CREATE TRIGGER "{name}_insert" INSTEAD OF INSERT ON "{name}"'
            f" FOR EACH ROW EXECUTE FUNCTION ingest_rerun_by_sql('{target}')",
            *sqlviews.read_only(name, "UPDATE OR DELETE"),
        ]
    else:
        extras = [
            _SQLITE_TRIGGER.format(
                name=name,
                target=target,
                only_rerun=_ONLY_RERUN,
                no_time=_NO_TIME,
                no_file=_NO_FILE,
                claimed=_CLAIMED,
            )
        ]
    return sqlviews.View(
        name=name,
        table="ingest_fileevent",
        columns=("id, ingest_ver, start_time, duration, err_message, status, file_id AS files_id"),
        owner=("ingester_id", target),
        extras=extras,
    )


def ensure(ingester: Ingester) -> bool:
    """Make the view of an ingester unless it is there; see `buffer.sqlviews.ensure`."""
    return sqlviews.ensure(ingester_view(ingester, connections["default"].vendor))


def before_migrate(using: str, plan: Any = None, **_: Any) -> None:
    """Drop the views of ingesters (signal handler); see `buffer.sqlviews.before_migrate`."""
    if plan != [] and sqlviews.existing(connections[using], "ingest_ingester"):
        for name in sqlviews.names("ingest_ingester", using):
            sqlviews.drop(name, "ingest_fileevent", using)


def after_migrate(using: str, **_: Any) -> None:
    """Make the views of ingesters again (signal handler)."""
    connection = connections[using]
    if sqlviews.existing(connection, "ingest_ingester"):
        for ingester in Ingester.objects.using(using).order_by("id"):
            sqlviews.ensure(ingester_view(ingester, connection.vendor), using)
