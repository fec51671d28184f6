"""Rows of files that were read, inserted a batch at a time.

One statement instead of the ORM's many, which took longer for a small file than all else together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from buffer import dialect
from buffer.passage import Passage
from buffer.reading import Reading

#: A reading and the id of its row.
Row = tuple[Reading, int]

_COLUMNS: Final = {
    "relpath": "text",
    "filename": "text",
    "checksum": "text",
    "size_bytes": "id",
    "identity": "text",
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
            "identity": reading.arrival.identity if passage.move else None,
        }
        for reading in readings
    ]
    # "WHERE true", or SQLite takes ON for that of a join.
    sql = f"""
        INSERT INTO buffer_file (
            storage_id, relpath, filename, checksum, checksum_algorithm, size_bytes,
            added_on, seen_on, stored_on, source, source_identity
        )
        SELECT %s, v.relpath, v.filename, v.checksum, %s, v.size_bytes, %s, %s, %s, %s, v.identity
        FROM {dialect.rows_from_json(_COLUMNS)}
        WHERE true
        ON CONFLICT (storage_id, relpath, filename) DO NOTHING
        RETURNING relpath, filename, id"""
    parameters: list[Any] = [
        passage.storage.pk,
        passage.algorithm,
        now,
        now,
        now if stored else None,
        str(passage.source.root) if passage.move else None,
        json.dumps(values),
    ]
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        ids = {(relpath, filename): number for relpath, filename, number in cursor.fetchall()}
    places = [(reading.arrival.relpath, reading.arrival.filename) for reading in readings]
    return [
        (reading, ids[place])
        for reading, place in zip(readings, places, strict=True)
        if place in ids
    ]
