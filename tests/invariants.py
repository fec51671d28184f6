"""The promises of the design as plain functions, for tests that share a process with the product.

Each raises `AssertionError`, with the number of the invariant that does not hold.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from django.db import connection
from django.db.models import Max

from buffer import dialect
from buffer.hashing import ALGORITHMS
from buffer.models import File
from buffer.names import INCOMING_DIR, MARKER_NAME
from ingest.claims import LEASE_S
from ingest.models import FileEvent, Ingestion
from ingest.statuses import Status


def contents(root: Path) -> dict[str, bytes]:
    """Read every file below a directory, by its path there; but for the storage's marker."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if name != MARKER_NAME:
                found[str(path.relative_to(root))] = path.read_bytes()
    return found


def stored_contents(root: Path) -> dict[str, bytes]:
    """Read every file of a storage area that is one, and no unfinished copy."""
    found = contents(root)
    return {path: data for path, data in found.items() if not path.startswith(f"{INCOMING_DIR}/")}


def nothing_lost(owed: Iterable[bytes], roots: Iterable[Path]) -> None:
    """I1: all that ever settled is in one of these directories."""
    there = {data for root in roots for data in contents(root).values()}
    lost = set(owed) - there
    assert not lost, f"I1: lost: {sorted(lost)}"


def rows_have_bytes(
    root: Path, *, untracked: Collection[str] = (), hurt: Collection[str] = ()
) -> None:
    """I2: every stored row has its bytes, and every file in storage has a row.

    Parameters
    ----------
    root
        The storage area.
    untracked
        Paths that somebody else has put there.
    hurt
        Paths that somebody else has damaged or deleted.
    """
    there = stored_contents(root)
    rows = {file.path: file for file in File.objects.all()}
    for path, file in rows.items():
        if file.stored_on is None or path in hurt:
            continue
        assert path in there, f"I2: {path} is marked stored and is not there"
        digest = ALGORITHMS[file.checksum_algorithm](there[path]).hexdigest()
        assert digest == file.checksum, f"I2: {path} has {there[path]!r}, which is not recorded"
    orphans = there.keys() - rows.keys() - set(untracked)
    assert not orphans, f"I2: in storage without a row: {sorted(orphans)}"


def nothing_changed(
    root: Path, before: Mapping[str, bytes], *, hurt: Collection[str] = ()
) -> dict[str, bytes]:
    """I3: what was stored is still the same; give what is stored now."""
    there = stored_contents(root)
    for path, data in before.items():
        if path not in hurt:
            assert there.get(path) == data, f"I3: {path} was {data!r}, is {there.get(path)!r}"
    rows = {file.path for file in File.objects.stored()}
    missing = before.keys() - rows
    assert not missing, f"I3: no longer marked stored: {sorted(missing)}"
    return {path: data for path, data in there.items() if path in rows and path not in hurt}


def nothing_held_for_ever(*, swept: int | None = None) -> None:
    """I4: no claim outlasts a lease; of the ingester that was just swept, none has lapsed."""
    with connection.cursor() as cursor:
        # A second more, for this very statement.
        late = dialect.now_plus(LEASE_S + 1)
        cursor.execute(
            f"SELECT file_id, lease_until FROM ingest_ingestion WHERE lease_until > {late}", []
        )
        assert not (rows := cursor.fetchall()), f"I4: leases of more than {LEASE_S} s: {rows}"
        if swept is not None:
            cursor.execute(
                "SELECT file_id, status FROM ingest_ingestion"
                f" WHERE ingester_id = %s AND lease_until < {dialect.now_plus(-1)}",
                [swept],
            )
            assert not (rows := cursor.fetchall()), f"I4: lapsed and not swept: {rows}"


def one_outcome_for_a_claim() -> None:
    """I5: attempts do not overlap, and each claim has one outcome at most."""
    begun: dict[tuple[int, int], object] = {}
    outcomes: Counter[object] = Counter()
    for event in FileEvent.objects.order_by("id"):
        key = (event.file_id, event.ingester_id)
        if event.status == Status.PENDING:
            assert key not in begun, f"I5: file {event.file_id}: two attempts at a time"
            assert event.claim is not None, f"I5: event {event.pk}: an attempt without a claim"
            begun[key] = event.claim
            continue
        if event.claim is not None:
            outcomes[event.file_id, event.claim] += 1
        if key in begun:
            assert event.claim == begun.pop(key), (
                f"I5: file {event.file_id}: {event.status} is not the outcome of its attempt"
            )
    doubled = {key: count for key, count in outcomes.items() if count > 1}
    assert not doubled, f"I5: claims with several outcomes: {doubled}"
    pending = Ingestion.objects.filter(status=Status.PENDING)
    running = {(row.file_id, row.ingester_id): row.claim for row in pending}
    assert running == begun, f"I5: PENDING rows {running} are not the attempts under way {begun}"


def status_is_newest_event() -> None:
    """I6: the status of a file at an ingester is that of its newest event, and it names it."""
    newest = {
        (row["file_id"], row["ingester_id"]): row["newest"]
        for row in FileEvent.objects.order_by()
        .values("file_id", "ingester_id")
        .annotate(newest=Max("id"))
    }
    events = FileEvent.objects.in_bulk(newest.values())
    rows = {(row.file_id, row.ingester_id): row for row in Ingestion.objects.all()}
    assert rows.keys() == newest.keys(), "I6: rows without events, or events without rows"
    for key, row in rows.items():
        event = events[newest[key]]
        assert (row.last_event_id, row.status) == (event.pk, event.status), (
            f"I6: file {row.file_id} is {row.status} by event {row.last_event_id}, and its newest"
            f" event is {event.status} ({event.pk})"
        )
