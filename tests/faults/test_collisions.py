"""A finder that is killed while it carries out what a person decided about a conflict."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connections

from buffer import decisions
from buffer.models import Choice, Decision, File, Refusal, Storage
from tests.buffer.conftest import Ground, cycle, other_file_system, refuse_links
from tests.buffer.test_collisions import NAME, NEW, OLD, OTHER, aside, decide, left, rest
from tests.faults.points import Points
from tests.tally import Tally

__all__ = ["other_file_system", "refuse_links"]


def scene(here: Path, aside_at: Path) -> Ground:
    """A conflict, in a place of its own."""
    for model in (Decision, Refusal, File, Storage):
        model._default_manager.all().delete()
    for path in (here, aside_at):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    ground = Ground(here)
    ground.options |= {"duplicates": str(aside_at), "fsync": True}
    for content in (OLD, NEW):
        ground.put(NAME, content)
        cycle(ground.finder())
    return ground


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("choice", "way"),
    [
        (Choice.KEEP_STORED, "link"),
        (Choice.KEEP_STORED, "rename"),
        (Choice.KEEP_STORED, "copy"),
        (Choice.KEEP_BOTH, "link"),
    ],
)
def test_killed_at_every_point(
    choice: Choice,
    way: str,
    tmp_path: Path,
    other_file_system: Path,
    refuse_links: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    tally: Tally,
) -> None:
    monkeypatch.setattr(decisions, "REFRESH_S", 0.0)
    elsewhere = other_file_system / "aside" if way == "copy" else tmp_path / "aside"
    if way == "rename":
        refuse_links()
    number = kills = 0
    killed = True
    points = Points()
    while killed:
        number += 1
        ground = scene(tmp_path / "ground", elsewhere)
        decision = decide(choice)
        with monkeypatch.context() as patch, points.watching(patch), points.armed(number):
            rest(ground)
        killed, where = bool(points.acted_at), points.acted_at
        kills += killed
        everywhere = [
            path.read_bytes()
            for root in (ground.source, ground.root, elsewhere)
            for path in root.rglob("*")
            if path.is_file()
        ]
        assert {OLD, NEW} <= set(everywhere), f"lost at {where}"
        rest(ground)
        decision.refresh_from_db()
        assert decision.done_on is not None and not decision.void, f"{where}: {decision.outcome}"
        assert left(ground) == [], where
        assert ground.stored(NAME) == OLD, where
        finished = {n: d for n, d in aside(ground).items() if not n.endswith(".part")}
        if choice == Choice.KEEP_STORED:
            assert finished == {NAME: NEW}, where
            assert File.objects.count() == 1
        else:
            assert finished == {} and ground.stored(f"2026/{OTHER}") == NEW, where
            assert File.objects.count() == 2
        refusal = Refusal.objects.get(pk=decision.refusal_id)
        assert (refusal.resolved_by, refusal.resolved_how) == ("ann", decision.outcome), where
        assert not Refusal.objects.unresolved().exists(), where
    assert kills > 15
    connections.close_all()
    tally(f"SIGKILL while a decision is carried out, {choice.value}, {way}", kills)
