"""What an audit finds, and what it does not; in-process, in storage that a finder has filled."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from buffer import audit_look, audit_rows, audit_walk, steps
from buffer.audit import Audit, Options, Report
from buffer.audit_config import Area, areas
from buffer.audit_findings import Finding
from buffer.audit_pace import Breath, Stopped, Subset
from buffer.models import Component, ComponentKind, File, Storage, Suspicion
from tests.buffer.conftest import Ground, cycle
from tests.plans import plans_of

pytestmark = pytest.mark.django_db

Look = Callable[..., Any]


class Stop:
    """Asks to stop when it is told to, and does not really sleep."""

    def __init__(self) -> None:
        self.requested = False
        self.waited = 0.0

    def wait(self, seconds: float) -> bool:
        self.waited += seconds
        return self.requested


def audit(
    ground: Ground, stop: Stop | None = None, area: Area | None = None, **options: Any
) -> tuple[set[tuple[str, str]], Report]:
    """Audit; give kinds and paths of what was found, each of which must be told once."""
    made = Audit(
        area or Area(ground.storage, ground.root), Options(**options), stop or Stop(), _silent
    )
    found = [(str(finding.kind), finding.path) for finding in made.findings()]
    assert len(found) == len(set(found))
    return set(found), made.report


def _silent(text: str) -> None:
    """Nobody listens."""


def standing() -> dict[str, str]:
    rows = Suspicion.objects.standing().select_related("file")
    return {str(row.file): row.kind for row in rows}


@pytest.fixture
def filled(ground: Ground) -> Ground:
    """Nine files in three directories, taken in by a finder."""
    for n in range(9):
        ground.put(f"2026/{n % 3}/exposure_{n}.fits", b"content of %d" % n)
    cycle(ground.finder())
    assert File.objects.stored().count() == 9
    ground.check()
    return ground


def row_of(n: int) -> File:
    return File.objects.get(filename=f"exposure_{n}.fits", relpath=f"2026/{n % 3}")


def test_nothing_is_wrong(filled: Ground) -> None:
    for checksums in (False, True):
        found, report = audit(filled, checksums=checksums)
        assert found == set()
        assert (report.rows, report.files, report.complete) == (9, 9, True)
        assert report.size_bytes == (9 * len("content of 0") if checksums else 0)
    assert not Suspicion.objects.exists()


# What is found


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:5] + bytes([data[5] ^ 1]) + data[6:])


def link(path: Path) -> None:
    path.rename(path.with_name(".elsewhere.tmp"))
    path.symlink_to(".elsewhere.tmp")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "kind", "by_size"),
    [
        (delete, "MISSING", True),
        (truncate, "CHANGED", True),
        (grow, "CHANGED", True),
        (flip, "CHANGED", False),
        (link, "NOT_REGULAR", True),
        (directory, "NOT_REGULAR", True),
        (fifo, "NOT_REGULAR", True),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_damage(filled: Ground, damage: Look, kind: str, by_size: bool) -> None:
    path = "2026/1/exposure_4.fits"
    damage(filled.root / path)
    assert audit(filled)[0] == ({(kind, path)} if by_size else set())
    assert audit(filled, checksums=True)[0] == {(kind, path)}
    assert standing() == {path: kind}


def test_a_directory_that_is_a_link(filled: Ground) -> None:
    (filled.root / "2026/1").rename(filled.root / "away")
    (filled.root / "2026/1").symlink_to("../away")
    found, _ = audit(filled)
    names = [f"exposure_{n}.fits" for n in (1, 4, 7)]
    assert found == {("NOT_REGULAR", f"2026/1/{name}") for name in names} | {
        ("UNTRACKED", f"away/{name}") for name in names
    }


@pytest.mark.parametrize(
    "name", ["2026/1/new.fits", "top.fits", "sub/.incoming/x", "bad\nname", "2026/no-utf8-\udcff"]
)
def test_untracked(filled: Ground, name: str) -> None:
    path = filled.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    ((kind, shown),) = audit(filled)[0]
    assert kind == "UNTRACKED"
    assert shown == name.replace("\n", "\\x0a").replace("\udcff", "\\udcff")


def test_what_is_nobodys_file(filled: Ground) -> None:
    for name in ("2026/x.fits.part", "2026/.x.fits.AbC123", "2026/.~tmp~/x", ".incoming/damaged-1"):
        path = filled.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (filled.root / "2026/latest").symlink_to("1")
    assert audit(filled)[0] == set()


def copy_row(n: int, **fields: Any) -> File:
    file = row_of(n)
    file.pk = None
    for name, value in fields.items():
        setattr(file, name, value)
    file.save(force_insert=True)
    return file


@pytest.mark.parametrize("relpath", ["2026/./1", "2026//1", "./2026/1", "2026/1/", "2026/0/../1"])
def test_a_second_row_by_another_spelling(filled: Ground, relpath: str) -> None:
    copy_row(4, relpath=relpath)
    assert audit(filled)[0] == {("DUPLICATE", f"{relpath}/exposure_4.fits")}


def test_a_second_row_through_a_link(filled: Ground) -> None:
    (filled.root / "alias").symlink_to("2026/1")
    copy_row(4, relpath="alias")
    assert audit(filled)[0] == {("DUPLICATE", "alias/exposure_4.fits")}


@pytest.mark.parametrize("seen", [True, False])
def test_a_second_row_without_a_file(filled: Ground, seen: bool) -> None:
    row = copy_row(4, relpath="else", **({} if seen else {"seen_on": None}))
    found, report = audit(filled)
    assert found == {("DUPLICATE", "else/exposure_4.fits")}
    mark = Suspicion.objects.get()
    assert mark.file_id == row.pk
    assert f"second row for file {row_of(4).pk} (2026/1/exposure_4.fits)" in mark.detail
    assert report.counts == {"DUPLICATE": 1}


def test_a_second_row_with_a_copy_of_the_file(filled: Ground) -> None:
    """The finder would have taken it for a duplicate; backfill records it where it lies."""
    copy = filled.root / "else/exposure_4.fits"
    copy.parent.mkdir()
    copy.write_bytes(b"content of 4")
    row = copy_row(4, relpath="else")
    assert audit(filled)[0] == {("DUPLICATE", "else/exposure_4.fits")}
    File.objects.filter(pk=row.pk).update(seen_on=None)
    assert audit(filled)[0] == set()
    copy.unlink()
    os.link(filled.root / "2026/1/exposure_4.fits", copy)
    assert audit(filled)[0] == set(), "a hard link is a name in its own right"


def test_a_row_that_leads_out_of_the_storage(filled: Ground, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"content of 4")
    row = copy_row(4, relpath="..", filename="secret")
    assert audit(filled, checksums=True)[0] == {("MISSING", "../secret")}
    assert "'..'" in Suspicion.objects.get(file=row).detail


def test_an_unknown_checksum(filled: Ground) -> None:
    File.objects.filter(pk=row_of(4).pk).update(checksum_algorithm="crc32")
    assert audit(filled)[0] == set()
    assert audit(filled, checksums=True)[0] == {("UNREADABLE", "2026/1/exposure_4.fits")}


# Errors of the medium


def failing(monkeypatch: pytest.MonkeyPatch, name: str, code: int, on: bytes) -> None:
    """Let a system call fail for files with a certain content."""
    real = getattr(os, name)

    def call(descriptor: int, *args: Any) -> Any:
        data = real(descriptor, *args)
        if data == on:
            raise OSError(code, os.strerror(code))
        return data

    monkeypatch.setattr(os, name, call)


def test_a_medium_that_fails_has_not_changed_the_file(
    filled: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "pread", errno.EIO, b"content of 4")
    assert audit(filled, checksums=True)[0] == {("UNREADABLE", "2026/1/exposure_4.fits")}
    assert "Input/output error" in Suspicion.objects.get().detail


def test_a_server_that_is_gone_says_nothing_of_a_file(
    filled: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "pread", errno.ESTALE, b"content of 4")
    found, report = audit(filled, checksums=True)
    assert found == set() and not report.complete and "tale" in report.error
    assert not Suspicion.objects.exists()


def test_a_directory_that_cannot_be_looked_through(
    filled: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(descriptor: int) -> Any:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("2026/1"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(descriptor)

    monkeypatch.setattr(os, "scandir", scandir)
    (filled.root / "2026/1/new").write_bytes(b"")
    assert audit(filled)[0] == {("UNREADABLE", "2026/1")}


# The storage area as a whole


def test_not_mounted(filled: Ground) -> None:
    filled.root.rename(filled.root.with_name("away"))
    filled.root.mkdir()
    found, report = audit(filled)
    assert found == set() and "no marker file" in report.error and not report.complete
    filled.root.rmdir()
    assert "cannot be opened" in audit(filled)[1].error
    assert not Suspicion.objects.exists()


def test_another_storage_is_mounted_there(filled: Ground) -> None:
    (filled.root / ".endpoint-storage").write_text("of somebody else\n")
    found, report = audit(filled)
    assert found == set() and "marked as another storage area" in report.error


@pytest.mark.parametrize("when", ["rows", "files"])
def test_unmounted_meanwhile(filled: Ground, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """The mount is gone when it is at the rows, or at the files: nothing is marked missing."""

    def unmount() -> None:
        away = filled.root.with_name("away")
        if not away.exists():
            filled.root.rename(away)
            filled.root.mkdir()

    if when == "rows":
        real = audit_rows.look

        def look(*args: Any) -> Any:
            unmount()
            return audit_look.Trouble(audit_rows.FindingKind.MISSING, "gone") or real(*args)

        monkeypatch.setattr(audit_rows, "look", look)
    else:
        scan = audit_walk.scan

        def walk(*args: Any, **options: Any) -> Iterator[Any]:
            for number, arrival in enumerate(scan(*args, **options)):
                if number == 1:
                    unmount()
                yield arrival

        monkeypatch.setattr(audit_walk, "scan", walk)
    found, report = audit(filled)
    assert found == set() and not report.complete and "no marker file" in report.error
    assert not Suspicion.objects.exists()


# Others at work


def test_what_a_finder_has_in_hand(filled: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever step of a take-in it meets, an audit finds nothing."""
    met: list[str] = []
    real = steps.reached

    def look(name: str) -> None:
        real(name)
        met.append(name)
        assert audit(filled, mark=False)[0] == set(), name

    filled.put("2026/1/exposure_90.fits", b"new")
    filled.put("2026/9/exposure_91.fits", b"new too")
    filled.put("2026/1/exposure_4.fits", b"content of 4")
    finder = filled.finder()
    monkeypatch.setattr(steps, "reached", look)
    cycle(finder)
    assert {"intent committed", "placed", "durable", "stored committed", "released"} <= set(met)
    monkeypatch.undo()
    filled.check()


def test_a_row_that_appears_just_now(filled: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is seen, and its row is made before the second look."""
    (filled.root / "2026/1/new.fits").write_bytes(b"")
    real = audit_walk.FilesAudit._still_there

    def look(*args: Any) -> Any:
        row = row_of(4)
        File.objects.filter(filename="new.fits").exists() or copy_row(
            4, filename="new.fits", checksum="0", size_bytes=0, relpath=row.relpath
        )
        return real(*args)

    monkeypatch.setattr(audit_walk.FilesAudit, "_still_there", look)
    assert audit(filled)[0] == set()


def test_a_file_that_is_repaired_just_now(filled: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled.root / "2026/1/exposure_4.fits"
    flip(path)
    real, looks = audit_rows.look, list[Any]()

    def look(tree: Any, file: File, sink: Any) -> Any:
        found = real(tree, file, sink)
        if found is not None:
            looks.append(found)
            flip(path)
        return found

    monkeypatch.setattr(audit_rows, "look", look)
    assert audit(filled, checksums=True)[0] == set()
    assert len(looks) == 1 and not Suspicion.objects.exists()


def test_a_file_that_an_arrival_repairs(filled: Ground) -> None:
    path = "2026/1/exposure_4.fits"
    flip(filled.root / path)
    audit(filled, checksums=True)
    filled.put(path, b"content of 4")
    cycle(filled.finder())
    assert audit(filled)[0] == set()
    assert standing() == {}


# Marks


def test_a_mark_is_cleared_by_the_content_only(filled: Ground) -> None:
    path = filled.root / "2026/1/exposure_4.fits"
    flip(path)
    audit(filled, checksums=True)
    first = Suspicion.objects.get()
    # It has its size, but it is marked: so it is read.
    found, report = audit(filled)
    assert found == {("CHANGED", "2026/1/exposure_4.fits")} and report.cleared == 0
    again = Suspicion.objects.get()
    assert (again.pk, again.found_on) == (first.pk, first.found_on)
    assert again.seen_on > first.seen_on
    flip(path)
    found, report = audit(filled)
    assert found == set() and report.cleared == 1
    cleared = Suspicion.objects.get()
    assert cleared.cleared_on is not None and "is as recorded" in cleared.cleared_how
    assert cleared.cleared_by == cleared.found_by
    delete(path)
    audit(filled)
    assert [row.cleared_on is None for row in Suspicion.objects.order_by("id")] == [False, True]


def test_a_file_that_is_wrong_in_another_way(filled: Ground) -> None:
    path = filled.root / "2026/1/exposure_4.fits"
    grow(path)
    audit(filled)
    delete(path)
    audit(filled)
    old, new = Suspicion.objects.order_by("id")
    assert (old.kind, old.cleared_how) == ("CHANGED", "found as MISSING instead")
    assert (new.kind, new.cleared_on) == ("MISSING", None)


def test_without_marking_nothing_is_written(filled: Ground) -> None:
    delete(filled.root / "2026/1/exposure_4.fits")
    before = Component.objects.count()
    assert len(audit(filled, mark=False)[0]) == 1
    assert not Suspicion.objects.exists() and Component.objects.count() == before


def test_an_audit_is_seen_at_work(filled: Ground) -> None:
    delete(filled.root / "2026/1/exposure_4.fits")
    audit(filled)
    row = Component.objects.get(kind=ComponentKind.AUDIT)
    assert row.subject == "files" and row.stopped_on is not None
    assert row.counters == {"rows": 9, "files": 8, "MISSING": 1}


# Parts, pace and end


def damage_all(ground: Ground) -> set[tuple[str, str]]:
    found = set()
    for n in range(9):
        path = f"2026/{n % 3}/exposure_{n}.fits"
        (delete if n % 2 else flip)(ground.root / path)
        found.add(("MISSING" if n % 2 else "CHANGED", path))
        (ground.root / f"new_{n}").write_bytes(b"")
        found.add(("UNTRACKED", f"new_{n}"))
    return found


@pytest.mark.parametrize("parts", [1, 2, 5, 30])
def test_the_parts_are_the_whole(filled: Ground, parts: int) -> None:
    everything = damage_all(filled)
    seen: set[tuple[str, str]] = set()
    for part in range(1, parts + 1):
        found, _ = audit(filled, subset=Subset(part, parts), checksums=True)
        assert not seen & found
        assert found == audit(filled, subset=Subset(part, parts), checksums=True, mark=False)[0]
        seen |= found
    assert seen == everything


def test_small_slices_and_another_storage(
    filled: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(audit_rows, "SLICE", 2)
    monkeypatch.setattr(audit_rows, "SLICE_BYTES", 10)
    monkeypatch.setattr(audit_walk, "SLICE", 2)
    other = Storage.objects.create(name="other", root=str(tmp_path / "other"))
    for n in range(0, 9, 2):
        copy_row(n, storage=other)
    everything = damage_all(filled)
    assert audit(filled, checksums=True)[0] == everything


def test_rows_that_come_later_are_for_the_next_audit(
    filled: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finder that is faster than the audit does not keep it for ever."""
    monkeypatch.setattr(audit_rows, "SLICE", 1)
    real = audit_rows.look

    def look(*args: Any) -> Any:
        copy_row(4, filename=f"{File.objects.count()}", stored_on=timezone.now(), checksum="f")
        return real(*args)

    monkeypatch.setattr(audit_rows, "look", look)
    assert audit(filled)[1].rows == 9


@pytest.mark.parametrize("checksums", [False, True])
def test_a_stop_among_the_rows(
    filled: Ground, monkeypatch: pytest.MonkeyPatch, checksums: bool
) -> None:
    delete(filled.root / "2026/0/exposure_0.fits")
    stop, real, looks = Stop(), audit_rows.look, list[str]()

    def look(tree: Any, file: File, sink: Any) -> Any:
        looks.append(file.path)
        stop.requested = len(looks) == 5
        return real(tree, file, sink)

    monkeypatch.setattr(audit_rows, "look", look)
    found, report = audit(filled, stop, checksums=checksums)
    assert not report.complete and report.error == "" and report.reached.startswith("at row 0 of")
    assert report.files == 0 and len(looks) in (5, 6)
    # Rows are in the order of their ids, not of the names.
    assert found <= {("MISSING", "2026/0/exposure_0.fits")}
    assert standing() == {path: kind for kind, path in found}


def test_a_stop_among_the_files(filled: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, real = Stop(), audit_walk.FilesAudit._without_row

    def look(*args: Any) -> Any:
        stop.requested = True
        return real(*args)

    monkeypatch.setattr(audit_walk.FilesAudit, "_without_row", look)
    found, report = audit(filled, stop)
    assert found == set() and not report.complete
    assert report.reached.startswith("through all rows, and in the directory 2026/")


def test_it_keeps_to_a_rate(filled: Ground) -> None:
    stop = Stop()
    clocked = Breath(stop, 1000.0, lambda: None)
    monotonic = [0.0]
    clocked._free_at = 0.0

    def wait(seconds: float) -> bool:
        monotonic[0] += seconds
        return False

    stop.wait = wait  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("buffer.audit_pace.time.monotonic", lambda: monotonic[0])
        for _ in range(10):
            clocked.block(bytes(500))
    assert 4.99 < monotonic[0] < 5.01
    stop.requested = True
    with pytest.raises(Stopped):
        clocked.block(bytes(10**9))


@pytest.mark.parametrize(
    "text", ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/x", "1/3/4", "1/9999999"]
)
def test_parts_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected K/N"):
        Subset.parse(text)


def test_a_proposal_is_one_line(filled: Ground) -> None:
    (filled.root / "x\ny").write_bytes(b"")
    made = Audit(Area(filled.storage, filled.root), Options(), Stop(), _silent)
    (finding,) = made.findings()
    assert isinstance(finding, Finding)
    assert str(finding).isprintable() and "by hand" in str(finding)
    assert "x\\x0ay" in str(finding)


# Files that are recorded where they lie


@pytest.fixture
def in_place(ground: Ground) -> Ground:
    """A storage area whose finder records what others put there."""
    section = {
        **ground.options,
        "source": str(ground.root),
        "actions": {"standard": "Noop"},
        "search": {"method": "scan", "exclude_list": ["^skipped/"]},
    }
    settings = {"finder": section, "storage": ground.storage.pk}
    Component.objects.create(kind="finder", subject="x", host="h", pid=1, settings=settings)
    return ground


def test_what_a_finder_has_not_recorded_yet(
    in_place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    (in_place.root / "new.fits").write_bytes(b"")
    (in_place.root / "skipped").mkdir()
    (in_place.root / "skipped/old.fits").write_bytes(b"")
    (area,) = areas(None)
    assert audit(in_place, area=area)[0] == set()
    monkeypatch.setattr("buffer.audit_config.PATIENCE_S", 0.0)
    (area,) = areas(None)
    assert audit(in_place, area=area)[0] == {("UNTRACKED", "new.fits")}


def test_logs_of_rsync_beside_the_files(in_place: Ground) -> None:
    row = Component.objects.get(kind="finder")
    row.settings["finder"]["search"] = {"method": "parse_rsync_logs"}
    row.save()
    (area,) = areas(None)
    assert area.is_left_out("20261125", "rsync_1.log")
    assert area.is_left_out("logs/20261125", "rsync_1.log.done")
    assert not area.is_left_out("20261125", "x.fits")
    assert not area.is_left_out("other", "rsync_1.log")


@pytest.mark.skipif("postgres" in connection.vendor, reason="its planner goes by sizes")
def test_files_are_looked_up_by_their_places(ground: Ground) -> None:
    """Else each batch would cost as much as there are files in the storage."""
    (ground.root / "untracked").write_bytes(b"1")
    with plans_of("json_each") as plans:
        audit(ground)
    assert plans
    assert all("(storage_id=? AND relpath=? AND filename=?)" in plan for plan in plans)
