"""Rows of a batch, inserted by one statement."""

from __future__ import annotations

import os

import pytest

from buffer import recording
from buffer.models import File
from buffer.reading import Reading
from tests.buffer.conftest import Ground
from tests.plans import plans_of

NAMES = [
    "night/a.fits",
    "top.fits",
    'night/it\'s "quoted" 100% {x} $y ?.fits',
    "nuit/é-Ω-🔭\\back.fits",
]


def readings(ground: Ground, *names: str) -> list[Reading]:
    made = []
    for name in names:
        descriptor = os.open(ground.put(name, name.encode()), os.O_RDONLY)
        checksum = f"{len(made):x}" * 64
        made.append(Reading(ground.arrival(name), descriptor, {"blake3": checksum, "md5": "no"}))
    return made


def test_intents_of_any_name(ground: Ground) -> None:
    batch = readings(ground, *NAMES)
    with plans_of("buffer_file") as queries:
        rows = recording.insert(ground.passage(), batch, stored=False)
    assert len(queries) == 1
    assert [reading for reading, _ in rows] == batch
    for reading, number in rows:
        arrival, file = reading.arrival, File.objects.get(pk=number)
        assert (file.relpath, file.filename) == (arrival.relpath, arrival.filename)
        assert (file.checksum, file.checksum_algorithm) == (reading.checksums["blake3"], "blake3")
        assert file.size_bytes == arrival.stat.st_size
        assert (file.source, file.source_identity) == (str(ground.source), arrival.identity)
        assert file.storage == ground.storage
        assert file.added_on == file.seen_on
        assert file.stored_on is None
        reading.close()


@pytest.mark.parametrize("move", [True, False])
def test_stored_files(ground: Ground, move: bool) -> None:
    batch = readings(ground, *NAMES)
    rows = recording.insert(ground.passage(move=move), batch, stored=True)
    assert len(rows) == len(NAMES)
    for file in File.objects.all():
        assert file.stored_on == file.added_on
        assert (file.source, file.source_identity is not None) == (
            (str(ground.source), True) if move else (None, False)
        )


def test_places_that_somebody_else_has(ground: Ground) -> None:
    theirs = recording.insert(ground.passage(), readings(ground, "night/a.fits"), stored=True)
    batch = readings(ground, *NAMES)
    rows = recording.insert(ground.passage(), batch, stored=False)
    assert [reading.arrival.path for reading, _ in rows] == NAMES[1:]
    assert File.objects.get(filename="a.fits").pk == theirs[0][1]
    assert File.objects.count() == len(NAMES)


def test_intents_that_are_stored_now(ground: Ground) -> None:
    rows = recording.insert(ground.passage(), readings(ground, *NAMES), stored=False)
    (first, *others) = [number for _, number in rows]
    assert recording.mark_stored([first]) == 1
    before = File.objects.get(pk=first).stored_on
    assert recording.mark_stored([first, *others]) == len(others)
    assert File.objects.get(pk=first).stored_on == before
    assert File.objects.stored().count() == len(NAMES)
    assert recording.mark_stored([]) == 0


def test_sources_that_are_gone(ground: Ground) -> None:
    rows = recording.insert(ground.passage(), readings(ground, *NAMES), stored=True)
    recording.forget_sources([number for _, number in rows][1:])
    assert File.objects.unreleased().get().pk == rows[0][1]
    assert File.objects.filter(source_identity=None).count() == len(NAMES) - 1


def test_nothing_to_insert(ground: Ground) -> None:
    assert recording.insert(ground.passage(), [], stored=True) == []
