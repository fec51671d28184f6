"""Who may work on which file now: claims with leases.

A claim is a token on ingestion rows and a time until which it holds, by the database's clock. It
changes no status. A worker renews its claim while it works; what is not renewed lapses and is
swept (`ingest.sweeping`), so that nothing stays claimed longer than its lease plus one sweep.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from django.db import connection, transaction

from buffer import dialect
from buffer import steps as protocol
from ingest.models import Ingestion
from ingest.statuses import CLAIMABLE, Status

#: How long a claim holds without being renewed, and how often a worker renews it; seconds.
LEASE_S = 30.0
RENEW_EVERY_S = 10.0

TABLE = "ingest_ingestion"
_PATH = f"""
    (SELECT CASE relpath WHEN '' THEN filename ELSE relpath || '/' || filename END
     FROM buffer_file WHERE buffer_file.id = {TABLE}.file_id)"""
#: The condition of the index on what waits, word for word, since SQLite compares the words.
IN_WAITING_INDEX = "status IN ({})".format(", ".join(f"'{s}'" for s in sorted(CLAIMABLE)))


#: A run that is to end waits for questions to the target that are due within this time.
QUESTIONS_WAITED_FOR: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Lane:
    """One kind of files to claim.

    Parameters
    ----------
    status : `Status`
        The status they have.
    due : `bool`
        Only files whose retry, or question to the target, is due.
    before_event : `int` or `None`
        Only files whose last event is not newer than this one: a run takes the files that had
        failed before it began, and does not go round in circles with those that fail in it.
    above : `int`
        Only ingestions with a greater id: a worker goes on where it was (see `ingest.lanes`), and
        a probe begins anywhere.
    """

    status: Status
    due: bool = False
    before_event: int | None = None
    above: int = 0

    @property
    def table(self) -> str:
        """SQL of the table that it is looked up in."""
        return TABLE if self.due else dialect.by_index(TABLE, "ingest_ingestion_waiting")

    @property
    def order(self) -> str:
        """SQL of the order in which its rows are claimed."""
        return "next_attempt_on, id" if self.due else "status, id"

    def by_id(self, way: str = "ASC") -> str:
        """SQL of the order of its rows by their ids."""
        # The sum keeps both databases from going through the table by its primary key.
        return f"id + 0 {way}" if self.due else f"status {way}, id {way}"

    def condition(self) -> tuple[str, list[int]]:
        """SQL of the rows of this lane that are not claimed, and its parameters."""
        free = "ingester_id = %s AND claim IS NULL"
        if self.due:
            sql = f"{free} AND status = '{self.status}' AND next_attempt_on <= {dialect.now()}"
            return (f"{sql} AND id + 0 > %s", [self.above]) if self.above else (sql, [])
        waits, parameters = dialect.further("status", self.status, "id", self.above)
        sql = f"{free} AND {waits} AND {IN_WAITING_INDEX}"
        if self.before_event is not None:
            sql += " AND last_event_id <= %s"
            parameters.append(self.before_event)
        return sql, parameters


@dataclass(frozen=True, slots=True)
class Claimed:
    """One claimed ingestion, as it was when it was claimed.

    Its path is relative to the root of the storage area.
    """

    ingestion_id: int
    file_id: int
    status: Status
    attempts: int
    path: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Some files of one ingester, held by one worker."""

    ingester_id: int
    token: uuid.UUID
    worker: str
    files: Sequence[Claimed]


def claim(
    ingester_id: int,
    lanes: Sequence[Lane],
    limit: int,
    worker: str,
    *,
    anywhere: bool = False,
    doubtful: set[uuid.UUID] | None = None,
) -> Claim | None:
    """Claim up to `limit` files from the first lane that has any.

    Files are taken oldest first within a lane, from its `Lane.above` on, or from a random place in
    a random lane with `anywhere`. Lanes are not mixed in one claim. Each lane that is tried costs a
    write transaction, which SQLite has only one of at a time: give those that `waiting` gives. A
    token stays in `doubtful` if the connection is lost before it is known whether the claim was
    committed; see `drop_doubtful`.

    Returns
    -------
    claim : `Claim` or `None`
        None when nothing waits.
    """
    doubtful = set() if doubtful is None else doubtful
    for lane in random.sample(lanes, len(lanes)) if anywhere else lanes:
        token = uuid.uuid4()
        order = lane.order
        if anywhere:
            lane = replace(lane, above=_random_id(ingester_id, lane) - 1)
            order = lane.by_id()
        condition, parameters = lane.condition()
        first = (
            f"SELECT id FROM {lane.table} WHERE {condition} ORDER BY {order} LIMIT %s"
            f"{dialect.skip_locked()}"
        )
        # The rows are locked, so their status is what it was. To ask for it again would let
        # PostgreSQL look through all that waits, where it believes (as it does after a burst, and
        # without statistics) that this is little.
        sql = f"""
            UPDATE {TABLE}
            SET claim = %s, lease_until = {dialect.now_plus(LEASE_S)}
            WHERE id {dialect.one_of(first)} AND claim IS NULL
            RETURNING id, file_id, attempts, {_PATH}"""
        doubtful.add(token)
        with transaction.atomic(), connection.cursor() as cursor:
            # A probe among what is due has to sort.
            sql = sql if anywhere and lane.due else dialect.in_order(sql)
            cursor.execute(sql, [token.hex, ingester_id, *parameters, limit])
            rows = sorted(cursor.fetchall())
            protocol.reached("claim written")
        protocol.reached("claimed")
        doubtful.remove(token)
        if rows:
            files = [
                Claimed(row_id, file_id, lane.status, attempts, path)
                for row_id, file_id, attempts, path in rows
            ]
            return Claim(ingester_id, token, worker, files)
    return None


def drop_doubtful(ingester_id: int, doubtful: set[uuid.UUID]) -> None:
    """Give up claims that may have been made when the connection was lost, and forget them.

    Otherwise files that nobody works on would be held until the lease has lapsed.
    """
    if doubtful:
        Ingestion.objects.filter(ingester_id=ingester_id, claim__in=doubtful).exclude(
            status=Status.PENDING
        ).update(claim=None, lease_until=None)
        doubtful.clear()


def waiting(ingester_id: int, lanes: Sequence[Lane]) -> Sequence[Lane]:
    """Give those lanes that have a file to claim now, in their order, by one query."""
    sql, values = waiting_sql(ingester_id, lanes)
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return [lanes[number] for number in sorted(number for (number,) in cursor.fetchall())]


def waiting_sql(ingester_id: int, lanes: Sequence[Lane]) -> tuple[str, list[Any]]:
    """Give a query of the numbers of those lanes that have a file to claim now."""
    questions: list[str] = []
    values: list[Any] = []
    for number, lane in enumerate(lanes):
        condition, parameters = lane.condition()
        # Ordered, and not EXISTS: where PostgreSQL believes that much waits, it would look for the
        # first of it from the beginning of the table, and find at its end that nothing does.
        questions.append(
            f"SELECT {number} WHERE (SELECT id FROM {lane.table} WHERE {condition}"
            f" ORDER BY {lane.order} LIMIT 1) IS NOT NULL"
        )
        values += [ingester_id, *parameters]
    return dialect.in_order(" UNION ALL ".join(questions)), values


def more_wait(ingester_id: int, lane: Lane, than: int) -> bool:
    """Tell whether more than so many files of a lane wait; takes time in proportion."""
    condition, parameters = lane.condition()
    sql = f"SELECT id FROM {lane.table} WHERE {condition} ORDER BY {lane.order} LIMIT 1 OFFSET %s"
    with connection.cursor() as cursor:
        cursor.execute(dialect.in_order(sql), [ingester_id, *parameters, than])
        return cursor.fetchone() is not None


def anything_due_later(ingester_id: int, lanes: Sequence[Lane]) -> bool:
    """Tell whether a file of a lane that waits for its time is not due yet.

    A question to the target that has failed again and again is not waited for.
    """
    statuses = [lane.status for lane in lanes if lane.due]
    later = Ingestion.objects.filter(
        ingester_id=ingester_id, next_attempt_on__isnull=False, status__in=statuses
    )
    soon = dialect.clock() + QUESTIONS_WAITED_FOR
    return later.exclude(status=Status.UNKNOWN, next_attempt_on__gt=soon).exists()


def forget_due(ingester_id: int, statuses: Sequence[Status]) -> int:
    """Have files that wait for their time wait no more, unless they have one of these statuses.

    No event: nothing happened to them. Gives their number.
    """
    return (
        Ingestion.objects.filter(
            ingester_id=ingester_id, next_attempt_on__isnull=False, claim__isnull=True
        )
        .exclude(status__in=statuses)
        .update(next_attempt_on=None)
    )


def anything_held(ingester_id: int) -> bool:
    """Tell whether any file of the ingester is claimed."""
    return Ingestion.objects.filter(ingester_id=ingester_id, claim__isnull=False).exists()


def renew(claim: Claim) -> int:
    """Prolong a claim's lease, if it has not lapsed.

    Returns
    -------
    held : `int`
        How many files it still holds.
    """
    sql = f"""
        UPDATE {TABLE} SET lease_until = {dialect.now_plus(LEASE_S)}
        WHERE ingester_id = %s AND claim IS NOT NULL AND claim = %s
          AND lease_until >= {dialect.now()}"""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, [claim.ingester_id, claim.token.hex])
        held = int(cursor.rowcount)
        protocol.reached("renewal written")
    protocol.reached("renewed")
    return held


def drop(claim: Claim, ingestion_ids: Sequence[int]) -> int:
    """Give up the claim on files whose status it never changed. No event: nothing happened."""
    dropped = (
        Ingestion.objects.filter(
            ingester_id=claim.ingester_id, claim=claim.token, id__in=ingestion_ids
        )
        .exclude(status=Status.PENDING)
        .update(claim=None, lease_until=None)
    )
    protocol.reached("claim dropped")
    return dropped


def _random_id(ingester_id: int, lane: Lane) -> int:
    """Choose an id between the lowest and the highest of a lane, wherever a worker has got to."""
    condition, parameters = replace(lane, above=0).condition()
    ends = [
        f"(SELECT id FROM {lane.table} WHERE {condition} ORDER BY {lane.by_id(way)} LIMIT 1)"
        for way in ("ASC", "DESC")
    ]
    sql = f"SELECT {', '.join(ends)}"
    with connection.cursor() as cursor:
        cursor.execute(sql if lane.due else dialect.in_order(sql), [ingester_id, *parameters] * 2)
        lowest, highest = cursor.fetchone()
    return random.randint(lowest, highest) if lowest is not None else 0
