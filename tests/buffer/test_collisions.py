"""What a person decided about a conflict: carried out once, by the finder, with nothing lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from buffer import decisions
from buffer.collisions import Collisions
from buffer.models import Choice, Decision, File, Refusal, RefusalReason
from tests.buffer.conftest import Ground, cycle

pytestmark = pytest.mark.django_db

OLD, NEW = b"the older one", b"the newer one, which is longer"
NAME, OTHER = "2026/a.fits", "a.conflict.fits"


@pytest.fixture(autouse=True)
def decisions_are_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "REFRESH_S", 0.0)


@pytest.fixture
def clash(ground: Ground, tmp_path: Path) -> Ground:
    """A stored file, and an arrival of its name with other content."""
    (tmp_path / "aside").mkdir()
    ground.options["duplicates"] = str(tmp_path / "aside")
    ground.put(NAME, OLD)
    cycle(ground.finder())
    ground.put(NAME, NEW)
    cycle(ground.finder())
    assert ground.refusal().reason == RefusalReason.CONFLICT
    return ground


def decide(choice: Choice, **fields: Any) -> Decision:
    refusal = Refusal.objects.unresolved().get()
    defaults = {"checksum": refusal.checksum, "file": refusal.file, "user": "ann",
                "new_name": OTHER if choice == Choice.KEEP_BOTH else ""}  # fmt: skip
    return Decision.objects.create(refusal=refusal, choice=choice, **{**defaults, **fields})


def rest(ground: Ground) -> None:
    """Let the finder work until nothing changes any more."""
    finder = ground.finder()
    for _ in range(5):
        found = cycle(finder)
        assert not found.blocked
    ground.check()


def aside(ground: Ground) -> dict[str, bytes]:
    root = Path(ground.options["duplicates"])
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def left(ground: Ground) -> list[str]:
    return [str(p.relative_to(ground.source)) for p in ground.source.rglob("*") if p.is_file()]


@pytest.fixture(params=["link", "rename", "copy"])
def way(
    request: pytest.FixtureRequest,
    clash: Ground,
    refuse_links: Callable[[], None],
    other_file_system: Path,
) -> str:
    """How the arrival is set aside."""
    if request.param == "rename":
        refuse_links()
    if request.param == "copy":
        clash.options["duplicates"] = str(other_file_system)
    return str(request.param)


def test_keep_stored(clash: Ground, way: str) -> None:
    decision = decide(Choice.KEEP_STORED)
    rest(clash)
    assert clash.stored(NAME) == OLD
    assert aside(clash) == {NAME: NEW} and left(clash) == []
    decision.refresh_from_db()
    assert decision.done_on is not None and not decision.void
    refusal = clash.refusal()
    assert refusal.resolved_by == "ann" and "set aside as" in refusal.resolved_how
    assert refusal.resolved_how == decision.outcome


def test_keep_stored_where_that_name_is_taken(clash: Ground) -> None:
    taken = Path(clash.options["duplicates"]) / NAME
    taken.parent.mkdir()
    taken.write_bytes(b"something else")
    decide(Choice.KEEP_STORED)
    rest(clash)
    assert aside(clash) == {NAME: b"something else", f"{NAME}.1": NEW}


def test_keep_both(clash: Ground) -> None:
    decide(Choice.KEEP_BOTH)
    rest(clash)
    assert clash.stored(NAME) == OLD and clash.stored(f"2026/{OTHER}") == NEW
    assert left(clash) == []
    assert File.objects.stored().count() == 2
    refusal = Refusal.objects.get()
    assert refusal.resolved_by == "ann" and f"taken in as 2026/{OTHER}" in refusal.resolved_how


def test_an_untracked_file_in_storage(ground: Ground) -> None:
    ground.put("a.fits", NEW)
    (ground.root / "a.fits").write_bytes(OLD)
    cycle(ground.finder())
    assert ground.refusal().file is None
    decide(Choice.KEEP_BOTH)
    finder = ground.finder()
    for _ in range(4):
        cycle(finder)
    assert ground.stored("a.fits") == OLD and ground.stored(OTHER) == NEW


@pytest.mark.parametrize("choice", [Choice.KEEP_STORED, Choice.KEEP_BOTH])
def test_the_arrival_has_changed_since(clash: Ground, choice: Choice) -> None:
    decision = decide(choice)
    clash.put(NAME, b"yet another")
    rest(clash)
    decision.refresh_from_db()
    assert decision.void and "other content than when it was decided" in decision.outcome
    assert left(clash) == [NAME] and clash.stored(NAME) == OLD and aside(clash) == {}
    refusal = clash.refusal()
    assert refusal.resolved_on is None and refusal.checksum != decision.checksum


def test_the_arrival_is_gone(clash: Ground) -> None:
    decision = decide(Choice.KEEP_BOTH)
    (clash.source / NAME).unlink()
    rest(clash)
    decision.refresh_from_db()
    assert decision.void and "no longer in the buffer" in decision.outcome


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"new_name": "../a"}, "slash"),
        ({"new_name": "a\x07"}, "control"),
        ({"new_name": "a.part"}, "passes over"),
        ({"new_name": "left.out"}, "passes over"),
        ({"new_name": "b.fits"}, "storage has a file named"),
        ({"new_name": "waits.fits"}, "buffer has a file named"),
        ({"file": None}, "another file of this name"),
    ],
)
def test_void(clash: Ground, changes: dict[str, Any], why: str) -> None:
    clash.put("2026/b.fits")
    cycle(clash.finder())
    clash.options["search"] = {**clash.options["search"], "exclude_list": ["left.out"]}
    decision = decide(Choice.KEEP_BOTH, **changes)
    finder = clash.finder(search={**clash.options["search"], "delay": 0})
    if changes.get("new_name") == "waits.fits":
        os.mkfifo(clash.source / "2026/waits.fits")
    for _ in range(3):
        cycle(finder)
    decision.refresh_from_db()
    assert decision.void and why in decision.outcome
    assert NAME in left(clash) and clash.stored(NAME) == OLD
    assert Refusal.objects.unresolved().filter(reason=RefusalReason.CONFLICT).exists()


@pytest.mark.parametrize("choice", [Choice.KEEP_STORED, Choice.KEEP_BOTH])
def test_taken_back_just_before_it_is_carried_out(
    clash: Ground, choice: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = decide(choice)
    check = Collisions._check

    def taken_back(*arguments: Any) -> None:
        check(*arguments)
        Decision.objects.update(done_on=timezone.now(), void=True, outcome="taken back")

    monkeypatch.setattr(Collisions, "_check", taken_back)
    rest(clash)
    assert left(clash) == [NAME] and aside(clash) == {}
    decision.refresh_from_db()
    assert decision.outcome == "taken back"


def test_nowhere_to_set_it_aside(clash: Ground) -> None:
    decision = decide(Choice.KEEP_STORED)
    finder = clash.finder(duplicates=None)
    for _ in range(3):
        cycle(finder)
    decision.refresh_from_db()
    assert decision.void and "finder.duplicates is not configured" in decision.outcome
    assert left(clash) == [NAME]


def test_trouble_aside_passes(clash: Ground) -> None:
    """The decision stands until it can be carried out, and is not tried in every cycle."""
    decision = decide(Choice.KEEP_STORED)
    place = Path(clash.options["duplicates"])
    (place / "2026").write_bytes(b"no directory")
    finder = clash.finder()
    for _ in range(4):
        cycle(finder)
    decision.refresh_from_db()
    assert decision.done_on is None and left(clash) == [NAME]
    assert Refusal.objects.get().times_seen <= 3
    (place / "2026").unlink()
    rest(clash)
    assert aside(clash) == {NAME: NEW}
