"""Rows of files that were read, inserted and changed a batch at a time.

One statement instead of the ORM's many, which took longer for a small file than all else together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db import connection
from django.utils import timezone

from buffer import dialect
from buffer.models import File
from buffer.passage import Passage
from buffer.reading import Reading


class InPlace(NamedTuple):
    """A file that was read where it is stored.

    Parameters
    ----------
    relpath, filename : `str`
        Its place in the storage area.
    checksum : `str`
        Hexadecimal digest.
    size_bytes : `int`
        Its size.
    """

    relpath: str
    filename: str
    checksum: str
    size_bytes: int


#: A reading and the id of its row.
Row = tuple[Reading, int]

_COLUMNS: Final = {
    "relpath": "text",
    "filename": "text",
    "checksum": "text",
    "size_bytes": "id",
}


def insert(passage: Passage, readings: Sequence[Reading], *, stored: bool) -> list[Row]:
    """Insert rows of files, unless somebody else has their places.

    Parameters
    ----------
    passage : `Passage`
        From where to where; a file that is moved keeps its source until it is released.
    readings : `~collections.abc.Sequence` [`Reading`]
        The files.
    stored : `bool`
        They are in storage, durable and complete; else these are intents.

    Returns
    -------
    rows : `list` [`Row`]
        Those that were inserted. Of the others another finder or a backfill has recorded a file
        at their place.
    """
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    values = [
        {
            "relpath": reading.arrival.relpath,
            "filename": reading.arrival.filename,
            "checksum": reading.checksums[passage.algorithm],
            "size_bytes": reading.arrival.stat.st_size,
            "source_identity": reading.arrival.identity if passage.move else None,
        }
        for reading in readings
    ]
    ids = _insert(
        {**_COLUMNS, "source_identity": "text"},
        values,
        storage_id=passage.storage.pk,
        checksum_algorithm=passage.algorithm,
        added_on=now,
        seen_on=now,
        stored_on=now if stored else None,
        source=str(passage.source.root) if passage.move else None,
    )
    places = [(reading.arrival.relpath, reading.arrival.filename) for reading in readings]
    return [
        (reading, ids[place])
        for reading, place in zip(readings, places, strict=True)
        if place in ids
    ]


def mark_stored(numbers: Sequence[int]) -> int:
    """Say of intents that their files are stored.

    Parameters
    ----------
    numbers : `~collections.abc.Sequence` [`int`]
        Ids of their rows.

    Returns
    -------
    marked : `int`
        How many of them were intents still.
    """
    # The index on what is an intent knows, until it is vacuumed, all files that were one; it is not
    # recognized behind CASE, so that they are looked up by their ids.
    ids = f"SELECT v.id FROM {dialect.rows_from_json({'id': 'id'})}"
    sql = f"""
        UPDATE buffer_file SET stored_on = %s
        WHERE id {dialect.one_of(ids)} AND CASE WHEN stored_on IS NULL THEN 1 ELSE 0 END = 1"""
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        cursor.execute(sql, [now, json.dumps([{"id": number} for number in numbers])])
        marked: int = cursor.rowcount
    return marked


def forget_sources(numbers: Sequence[int]) -> None:
    """Say of stored files that their sources are gone.

    Parameters
    ----------
    numbers : `~collections.abc.Sequence` [`int`]
        Ids of their rows.
    """
    File.objects.filter(id__in=numbers).update(source=None, source_identity=None)


def insert_in_place(
    storage_id: int, files: Sequence[InPlace], algorithm: str, now: datetime
) -> list[int]:
    """Insert rows of files that are in storage already, unless somebody else has their places.

    Parameters
    ----------
    storage_id : `int`
        Where they are.
    files : `~collections.abc.Sequence` [`InPlace`]
        The files.
    algorithm : `str`
        That of their checksums.
    now : `~datetime.datetime`
        When they are recorded.

    Returns
    -------
    ids : `list` [`int`]
        Of the rows that were inserted: as many as there are files, or somebody was faster.
    """
    moment = connection.ops.adapt_datetimefield_value(now)
    ids = _insert(
        _COLUMNS,
        [file._asdict() for file in files],
        storage_id=storage_id,
        checksum_algorithm=algorithm,
        added_on=moment,
        stored_on=moment,
    )
    return sorted(ids.values())


def _insert(
    columns: Mapping[str, str], values: Sequence[Mapping[str, Any]], **same: Any
) -> dict[tuple[str, str], int]:
    """Insert rows that have some columns in common; give the ids of those whose place was free."""
    # "WHERE true", or SQLite takes ON for that of a join.
    sql = f"""
        INSERT INTO buffer_file ({", ".join([*same, *columns])})
        SELECT {", ".join(["%s"] * len(same) + [f"v.{name}" for name in columns])}
        FROM {dialect.rows_from_json(columns)}
        WHERE true
        ON CONFLICT (storage_id, relpath, filename) DO NOTHING
        RETURNING relpath, filename, id"""
    with connection.cursor() as cursor:
        cursor.execute(sql, [*same.values(), json.dumps(values)])
        return {(relpath, filename): number for relpath, filename, number in cursor.fetchall()}
