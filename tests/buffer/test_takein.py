"""One batch, and how batches are cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from buffer import batches as batches_module
from buffer.batches import batches
from buffer.duplicates import Duplicates
from buffer.durability import Pending
from buffer.finder_config import AlternativeAction
from buffer.models import TRANSIENT_REASONS, File
from buffer.takein import TakeIn
from buffer.trees import Tree
from tests.buffer.conftest import Ground

pytestmark = pytest.mark.django_db


def take_in(ground: Ground, **changes: object) -> TakeIn:
    passage = ground.passage(**changes)
    duplicates = Duplicates(passage, AlternativeAction.DELETE, None)
    return TakeIn(passage, ground.ledger(passage), duplicates)


def test_one_batch(ground: Ground) -> None:
    ground.put("d/a", b"a")
    ground.put("b", b"b")
    work = take_in(ground)
    assert work.batch([ground.arrival("d/a"), ground.arrival("b")]) == {"d/a", "b"}
    file = File.objects.get(filename="a")
    assert (file.relpath, file.size_bytes, file.checksum_algorithm) == ("d", 1, "blake3")
    assert file.stored_on is not None and file.seen_on is not None
    assert file.seen_on <= file.stored_on
    assert File.objects.unreleased().count() == 2
    work.flush()
    assert not File.objects.unreleased().exists()


def test_queries_do_not_grow_with_the_batch(
    ground: Ground, django_assert_max_num_queries: object
) -> None:
    for n in range(60):
        ground.put(f"{n}", b"%d" % n)
    arrivals = [ground.arrival(f"{n}") for n in range(60)]
    with django_assert_max_num_queries(16):  # type: ignore[operator]
        take_in(ground).batch(arrivals)
    assert File.objects.stored().count() == 60


def test_deep_directories_keep_their_files(ground: Ground) -> None:
    """More directories than are held open lie on the way."""
    deep = "/".join(f"c{n}" for n in range(1, 101))
    ground.put(f"{deep}/a")
    ground.put(f"{deep}/b", b"b")
    arrivals = [ground.arrival(f"{deep}/{name}") for name in "ab"]
    assert len(take_in(ground, fsync=True).batch(arrivals)) == 2
    assert ground.stored(f"{deep}/a") == b"content"
    assert ground.stored(f"{deep}/b") == b"b"
    ground.check()


@pytest.mark.parametrize("linked", [False, True])
def test_what_was_renamed_goes_back_though_it_has_another_link(
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    refuse_links: Callable[[], None],
    linked: bool,
) -> None:
    """As with rsync's --link-dest: it is not in the buffer."""
    path = ground.put("a")
    os.link(path, ground.source.parent / "elsewhere")
    if not linked:
        refuse_links()

    def fails(pending: Pending) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Pending, "sync", fails)
    take_in(ground, fsync=True).batch([ground.arrival("a")])
    assert path.read_bytes() == b"content"
    assert not (ground.root / "a").exists()


@pytest.mark.parametrize(
    "name",
    ["a.fits", "n" * 255, "\N{TELESCOPE}" * 60 + ".fits"],
    ids=["short", "long", "many bytes"],
)
def test_what_was_renamed_is_not_lost_to_a_newcomer(
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    refuse_links: Callable[[], None],
    name: str,
) -> None:
    """Its name in the buffer is another file's by the time that it has to be taken back."""
    refuse_links()
    ground.put(name, b"settled")
    arrival = ground.arrival(name)

    def fails(pending: Pending) -> None:
        ground.put(name, b"newcomer")
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Pending, "sync", fails)
    take_in(ground, fsync=True).batch([arrival])
    assert (ground.source / name).read_bytes() == b"newcomer"
    contents = {path.read_bytes() for path in ground.source.iterdir()}
    assert contents == {b"settled", b"newcomer"}
    assert not File.objects.exists() and not (ground.root / name).exists()


def test_a_stale_look_at_an_arrival(ground: Ground) -> None:
    ground.put("a", b"begun")
    arrival = ground.arrival("a")
    ground.put("a", b"and done")
    assert take_in(ground).batch([arrival]) == set()
    assert not File.objects.exists()


def test_a_place_that_somebody_takes_in_already(ground: Ground) -> None:
    ground.put("a")
    File.objects.create(
        storage=ground.storage, filename="a", checksum="x", checksum_algorithm="blake3",
        size_bytes=1, source="/another",
    )  # fmt: skip
    assert take_in(ground).batch([ground.arrival("a")]) == set()
    assert (ground.source / "a").exists()


def test_a_take_in_that_was_never_finished_is_told(ground: Ground) -> None:
    """The finder was given another source, and nobody finishes what it had begun."""
    ground.put("a")
    intent = File.objects.create(
        storage=ground.storage, filename="a", checksum="x", checksum_algorithm="blake3",
        size_bytes=1, source="/former\x1b", added_on=timezone.now() - timedelta(minutes=11),
    )  # fmt: skip
    take_in(ground).batch([ground.arrival("a")])
    refusal = ground.refusal()
    assert refusal.reason in TRANSIENT_REASONS, "it is tried again, since somebody may finish it"
    assert "/former\\x1b" in refusal.detail and "never finished" in refusal.detail
    assert (ground.source / "a").exists()
    assert File.objects.intents().get() == intent


@pytest.mark.parametrize("at", ["stored committed", "durable"])
def test_a_writer_that_comes_late_keeps_its_file(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, at: str, other_file_system: Path
) -> None:
    """While the database is waited for, on another file system too."""
    ground.put("a")
    writers: list[int] = []

    def reached(step: str) -> None:
        if step == at:
            writers.append(os.open(ground.source / "a", os.O_WRONLY | os.O_APPEND))

    monkeypatch.setattr("buffer.steps.reached", reached)
    with Tree(other_file_system) as target:
        take_in(ground, target=target).batch([ground.arrival("a")])
    (writer,) = writers
    os.write(writer, b" and more")
    os.close(writer)
    assert (ground.source / "a").read_bytes() == b"content and more"
    assert (other_file_system / "a").read_bytes() == b"content"


def test_a_place_that_is_reserved_just_now(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was looked for, before the intents are written: the others go on."""
    from buffer import takein
    from buffer.candidates import Candidates

    for name in "ab":
        ground.put(name, name.encode())
    File.objects.create(
        storage=ground.storage, filename="a", checksum="x", checksum_algorithm="blake3",
        size_bytes=1, source="/another",
    )  # fmt: skip
    monkeypatch.setattr(takein, "look_up", lambda *_: Candidates([]))
    assert take_in(ground).batch([ground.arrival(name) for name in "ab"]) == {"b"}
    assert (ground.source / "a").exists()
    assert ground.stored("b") == b"b"


def test_batches_by_number_and_size(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "FILES", 3)
    monkeypatch.setattr(batches_module, "BYTES", 100)
    monkeypatch.setattr(batches_module, "LARGE", 50)
    sizes = [1, 60, 1, 70, 1, 1, 1, 1, 200, 90]
    arrivals = []
    for n, size in enumerate(sizes):
        ground.put(f"{n}", b"x" * size)
        arrivals.append(ground.arrival(f"{n}"))
    found = [[int(arrival.filename) for arrival in batch] for batch in batches(arrivals)]
    assert found == [[0, 2], [1, 3], [4, 5, 6], [7], [8], [9]]


def test_large_files_alone_are_not_all_one_batch(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "BYTES", 100)
    monkeypatch.setattr(batches_module, "LARGE", 50)
    ground.put("a", b"x" * 60)
    found = list(batches([ground.arrival("a")] * 6))
    assert [len(batch) for batch in found] == [2, 2, 2]
