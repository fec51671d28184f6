"""What a crash left: each row of the table in `buffer.recovery`."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from blake3 import blake3
from django.utils import timezone

from buffer import recovery
from buffer.copies import Copies, kept_name
from buffer.models import File, Refusal, RefusalReason
from buffer.recovery import Fate, Recovery
from buffer.refusals import Refusals
from tests.buffer.conftest import Ground, cycle

pytestmark = pytest.mark.django_db


def left(ground: Ground, name: str, content: bytes = b"content", **fields: Any) -> File:
    relpath, _, filename = name.rpartition("/")
    path = ground.source / name
    return File.objects.create(
        storage=ground.storage,
        relpath=relpath,
        filename=filename,
        checksum=blake3(content).hexdigest(),
        checksum_algorithm="blake3",
        size_bytes=len(content),
        source=str(ground.source),
        source_identity=ground.arrival(name).identity if path.exists() else "1:2:3:4",
        **fields,
    )


def recover(ground: Ground) -> dict[str, int]:
    passage = ground.passage(fsync=True)
    return dict(Recovery(passage, Refusals(ground.storage, str(ground.source))).run())


def put_in_storage(ground: Ground, name: str, content: bytes = b"content") -> None:
    path = ground.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_intent_only(ground: Ground) -> None:
    ground.put("d/a")
    left(ground, "d/a")
    assert recover(ground) == {Fate.UNDONE: 1}
    assert not File.objects.exists()


def test_a_source_that_is_being_written_stays(ground: Ground) -> None:
    """What its writer writes would go into a file without a name."""
    source = ground.put("d/a")
    put_in_storage(ground, "d/a")
    left(ground, "d/a", stored_on=timezone.now())
    with source.open("r+b"):
        assert recover(ground) == {Fate.NOT_RELEASED: 1}
    assert source.exists()
    assert recover(ground) == {Fate.RELEASED: 1}


def test_intent_and_its_file(ground: Ground) -> None:
    ground.put("d/a")
    put_in_storage(ground, "d/a")
    left(ground, "d/a")
    assert recover(ground) == {Fate.COMPLETED: 1, Fate.RELEASED: 1}
    assert File.objects.stored().get().source is None
    assert not (ground.source / "d/a").exists()
    ground.check()


def test_intent_and_another_file(ground: Ground) -> None:
    ground.put("a")
    put_in_storage(ground, "a", b"foreign")
    left(ground, "a")
    assert recover(ground) == {Fate.UNDONE: 1}
    assert ground.stored("a") == b"foreign"


@pytest.mark.parametrize("what", ["file", "link", "directory link"])
def test_intent_another_file_and_the_source_gone(ground: Ground, what: str) -> None:
    """It is said, what is there stays, and so does a copy that may be the last."""
    if what == "file":
        put_in_storage(ground, "d/a", b"foreign")
    elif what == "link":
        (ground.root / "d").mkdir()
        (ground.root / "d/a").symlink_to("/etc/passwd")
    else:
        (ground.root / "d").symlink_to("/etc")
    put_in_storage(ground, ".incoming/me-0.part", b"half")
    put_in_storage(ground, ".incoming/me-1.part")
    left(ground, "d/a")
    assert recover(ground) == {Fate.LOST: 1}
    assert ground.refusal().reason == RefusalReason.CONFLICT
    check_kept(ground)
    assert recover(ground) == {}
    check_kept(ground)
    if what == "file":
        assert ground.stored("d/a") == b"foreign"


def check_kept(ground: Ground) -> None:
    """Of all copies there is only the good one, and the refusal says where."""
    (kept,) = ground.incoming()
    assert (ground.root / ".incoming" / kept).read_bytes() == b"content"
    assert f".incoming/{kept}" in ground.refusal().detail


def test_what_is_kept_is_told_until_somebody_takes_it_away(ground: Ground) -> None:
    put_in_storage(ground, "d/a", b"foreign")
    file = left(ground, "d/a")
    finder = ground.finder()
    assert finder.measures()["kept"] == []
    put_in_storage(ground, f".incoming/{kept_name(file.checksum)}")
    for _ in range(3):
        cycle(finder)
    assert ground.refusal().resolved_on is not None, "it is not in the buffer"
    for running in (finder, ground.finder()):
        cycle(running)
        (path,) = running.measures()["kept"]
        assert (ground.root / path).read_bytes() == b"content"
    os.unlink(ground.root / path)
    assert finder.measures()["kept"] == []


def test_killed_between_keeping_a_copy_and_saying_so(ground: Ground) -> None:
    put_in_storage(ground, "d/a", b"foreign")
    put_in_storage(ground, ".incoming/me-1.part")
    file = left(ground, "d/a")
    Copies(ground.passage()).keep(file)
    os.unlink(ground.root / ".incoming/me-1.part")
    assert recover(ground) == {Fate.LOST: 1}
    check_kept(ground)


def test_no_copy_to_keep(ground: Ground) -> None:
    put_in_storage(ground, "d/a", b"foreign")
    put_in_storage(ground, ".incoming/me-1.part", b"half")
    left(ground, "d/a")
    assert recover(ground) == {Fate.LOST: 1}
    assert ground.incoming() == []
    assert ".incoming" not in ground.refusal().detail


def test_intent_and_a_copy(ground: Ground) -> None:
    put_in_storage(ground, ".incoming/me-0.part", b"half")
    put_in_storage(ground, ".incoming/me-1.part")
    left(ground, "d/a")
    assert recover(ground) == {Fate.FROM_COPY: 1, Fate.WAS_RELEASED: 1}
    assert ground.stored("d/a") == b"content"
    ground.check()


def test_intent_and_nothing(ground: Ground) -> None:
    left(ground, "d/a")
    assert recover(ground) == {Fate.VANISHED: 1}
    assert ground.refusal().reason == RefusalReason.VANISHED
    assert not File.objects.exists()


def test_stored_and_another_arrival_of_its_name(ground: Ground) -> None:
    ground.put("a", b"old")
    put_in_storage(ground, "a", b"old")
    left(ground, "a", b"old", stored_on=timezone.now())
    os.unlink(ground.source / "a")
    ground.put("a", b"newcomer")
    assert recover(ground) == {Fate.WAS_RELEASED: 1}
    assert (ground.source / "a").read_bytes() == b"newcomer"


def test_no_more_stored_copies_are_read_than_a_crash_can_leave(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "MOST_RELEASED", 2)
    for name in "abc":
        ground.put(name)
        put_in_storage(ground, name)
        left(ground, name, stored_on=timezone.now())
    assert recover(ground) == {Fate.RELEASED: 2}
    assert [path.name for path in ground.source.iterdir()] == ["a"]
    cycle(ground.finder())
    assert not list(ground.source.iterdir()), "met by the scan, as a leftover"
    ground.check()


def test_an_arrival_that_comes_while_the_stored_copy_is_read(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading takes minutes for large files."""
    ground.put("a", b"old")
    put_in_storage(ground, "a", b"old")
    left(ground, "a", b"old", stored_on=timezone.now())
    read = recovery.what_is_wrong

    def replaced(*arguments: Any) -> str:
        ground.put("new", b"newcomer").replace(ground.source / "a")
        return read(*arguments)

    monkeypatch.setattr(recovery, "what_is_wrong", replaced)
    recover(ground)
    assert (ground.source / "a").read_bytes() == b"newcomer"
    assert ground.stored("a") == b"old"


@pytest.mark.parametrize("what", ["intent", "copy"])
def test_what_cannot_be_read_blocks_nothing_else(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    for name in "ab":
        ground.put(name)
        if what == "intent":
            put_in_storage(ground, name)
        left(ground, name)
    if what == "copy":
        (ground.source / "a").unlink()
        put_in_storage(ground, ".incoming/me-0.part")
    bad = (ground.root / ("a" if what == "intent" else ".incoming/me-0.part")).stat().st_ino
    has_content = recovery.has_content

    def fails(descriptor: int, file: File) -> bool:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(errno.EIO, "Input/output error")
        return has_content(descriptor, file)

    monkeypatch.setattr(recovery, "has_content", fails)
    monkeypatch.setattr("buffer.copies.has_content", fails)
    found = recover(ground)
    if what == "intent":
        assert found == {Fate.UNDONE: 1, Fate.COMPLETED: 1, Fate.RELEASED: 1}
        assert ground.stored("a") == b"content"
    else:
        assert found == {Fate.VANISHED: 1, Fate.UNDONE: 1}
        assert ground.incoming() == ["me-0.part"], "it may be the last copy"


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_stored_but_not_good(ground: Ground, damage: str) -> None:
    ground.put("a")
    if damage == "damaged":
        put_in_storage(ground, "a", b"contexx")
    left(ground, "a", stored_on=timezone.now())
    assert recover(ground) == {Fate.NOT_RELEASED: 1}
    assert (ground.source / "a").exists()
    assert File.objects.unreleased().exists()


def test_copies_of_nobody(ground: Ground) -> None:
    for name in ("me-1.part", "you-1.part", "damaged-1-ab", "me-notes"):
        put_in_storage(ground, f".incoming/{name}")
    assert recover(ground) == {}
    assert ground.incoming() == ["damaged-1-ab", "me-notes", "you-1.part"]


def test_intents_of_other_finders_are_left(ground: Ground) -> None:
    file = left(ground, "a")
    File.objects.filter(pk=file.pk).update(source="/another/buffer")
    assert recover(ground) == {}
    assert File.objects.intents().exists()
    assert not Refusal.objects.exists()


def torn(ground: Ground, name: str) -> None:
    """What a power cut does to a file: it is shorter, and not newer."""
    path = ground.source / name
    state = path.stat()
    os.truncate(path, 3)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_own_link_without_its_content(ground: Ground) -> None:
    path = ground.put("a")
    left(ground, "a")
    torn(ground, "a")
    os.link(path, ground.root / "a")
    assert recover(ground) == {Fate.TORN: 1}
    assert not (ground.root / "a").exists()
    assert path.read_bytes() == b"con"
    assert ground.refusal().reason == RefusalReason.CONFLICT


def test_what_is_left_of_a_source_once_somebody_touched_it(ground: Ground) -> None:
    path = ground.put("a")
    left(ground, "a")
    torn(ground, "a")
    cycle(ground.finder())
    assert path.read_bytes() == b"con" and "touch it" in ground.refusal().detail
    path.touch()
    cycle(ground.finder())
    assert ground.stored("a") == b"con" and ground.refusal().resolved_on is not None


def test_own_rename_without_its_content(ground: Ground) -> None:
    path = ground.put("a")
    left(ground, "a")
    torn(ground, "a")
    path.rename(ground.root / "a")
    assert recover(ground) == {Fate.TORN: 1}
    assert not (ground.root / "a").exists()
    assert path.read_bytes() == b"con"


def test_own_copy_without_its_content(ground: Ground) -> None:
    ground.put("a")
    left(ground, "a")
    put_in_storage(ground, ".incoming/me-1.part", b"")
    os.link(ground.root / ".incoming/me-1.part", ground.root / "a")
    assert recover(ground) == {Fate.UNDONE: 1}
    assert not (ground.root / "a").exists()
    assert ground.incoming() == []


def test_source_without_its_content_and_a_copy(ground: Ground) -> None:
    ground.put("a")
    left(ground, "a")
    torn(ground, "a")
    put_in_storage(ground, ".incoming/me-1.part")
    assert recover(ground) == {Fate.FROM_COPY: 1, Fate.WAS_RELEASED: 1}
    assert ground.stored("a") == b"content"


def test_source_without_its_content_a_copy_and_another_file(ground: Ground) -> None:
    ground.put("a")
    left(ground, "a")
    torn(ground, "a")
    put_in_storage(ground, "a", b"foreign")
    put_in_storage(ground, ".incoming/me-1.part")
    assert recover(ground) == {Fate.TORN: 1}
    assert ground.stored("a") == b"foreign"
    check_kept(ground)


def test_source_that_was_written_since(ground: Ground) -> None:
    path = ground.put("a")
    left(ground, "a")
    state = path.stat()
    path.write_bytes(b"rewritten")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert recover(ground) == {Fate.UNDONE: 1}
    assert not Refusal.objects.exists()
