"""The finder's cycles where the kernel tells what changed."""

from __future__ import annotations

import time
from typing import Any

import pytest

from buffer import watch_search
from buffer.cycle import Cycle
from buffer.finder import Finder
from buffer.models import File, Refusal, RefusalReason
from tests.buffer.conftest import Ground, cycle

pytestmark = pytest.mark.django_db


def watching(ground: Ground, delay: float = 0, **changes: Any) -> Finder:
    """A finder after its first cycle, a full scan."""
    finder = ground.finder(search={"method": "watch", "delay": delay}, **changes)
    cycle(finder)
    assert finder.wakes is not None
    return finder


def until_done(finder: Finder, count: int = 1, seconds: float = 10) -> Cycle:
    end = time.monotonic() + seconds
    while (found := cycle(finder)).done < count:
        assert time.monotonic() < end
        time.sleep(max(0.01, min(finder.pause_s(), 0.1)))
    return found


def test_takes_in_what_the_kernel_tells_of(ground: Ground) -> None:
    finder = watching(ground)
    for n in range(400):
        ground.put(f"day_{n % 3}/{n}.fits", b"%d" % n)
    assert cycle(finder).done == 400
    assert cycle(finder).quiet
    assert finder.counters["scans"] == 1
    ground.check()


def test_a_cycle_costs_what_arrives(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much lies in the buffer."""
    for n in range(100):
        (ground.source / f"{n}.fits").symlink_to("/nowhere")
    finder = watching(ground)
    looks: list[str] = []
    stat = type(ground.passage().source).stat
    monkeypatch.setattr(
        "buffer.trees.Tree.stat",
        lambda self, relpath, name: (looks.append(name), stat(self, relpath, name))[1],
    )
    monkeypatch.setattr(watch_search, "scan", None)
    ground.put("new.fits")
    assert cycle(finder).done == 1
    assert cycle(finder).quiet
    assert set(looks) <= {"new.fits"}, "it and nothing else"
    assert Refusal.objects.unresolved().count() == 100


def test_settles_first(ground: Ground) -> None:
    finder = watching(ground, delay=0.3)
    began = time.monotonic()
    with (ground.source / "slow").open("w") as file:
        for _ in range(4):
            file.write("part ")
            file.flush()
            time.sleep(0.1)
            assert cycle(finder).done == 0
    # Closing is a notice: its quiet time begins now.
    closed = time.monotonic()
    found = until_done(finder)
    assert closed - began > 0.3 and time.monotonic() - closed > 0.25
    assert found.waiting == 0
    assert ground.stored("slow") == b"part part part part "


def test_a_sidecar_goes_first(ground: Ground) -> None:
    finder = watching(ground, delay=0.3)
    ground.put("x.fits.fz")
    cycle(finder)
    time.sleep(0.15)
    ground.put("x.json")
    assert cycle(finder).waiting == 2
    until_done(finder, 2)
    names = list(File.objects.order_by("id").values_list("filename", flat=True))
    assert names == ["x.json", "x.fits.fz"]


def test_twins_of_one_batch(ground: Ground) -> None:
    finder = watching(ground)
    ground.put("a/x")
    ground.put("b/x")
    first = cycle(finder)
    assert (first.done, first.waiting) == (1, 1)
    assert cycle(finder).done == 1
    assert ground.refusal().reason == RefusalReason.DUPLICATE
    assert cycle(finder).quiet and finder.counters["scans"] == 1


def test_refused_until_it_changes(ground: Ground) -> None:
    finder = watching(ground)
    ground.put("a", b"first")
    cycle(finder)
    path = ground.put("a", b"second")
    assert cycle(finder).done == 1
    path.open("a").close()  # tells of it, and changes nothing
    assert cycle(finder).quiet
    assert finder.pause_s() > 1
    path.rename(ground.source / "b")
    assert cycle(finder).done == 1
    assert ground.stored("b") == b"second"


def test_a_person_decides(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    (ground.root / "a").write_bytes(b"other")
    monkeypatch.setattr("buffer.decisions.REFRESH_S", 0.0)
    ground.put("a")
    finder = watching(ground)
    (ground.root / "a").unlink()
    assert cycle(finder).quiet
    Refusal.objects.update(resolved_on="2026-01-01T00:00Z", resolved_by="me", resolved_how="go")
    assert cycle(finder).done == 1


def test_nothing_is_forgotten_while_nothing_can_be_taken_in(ground: Ground) -> None:
    finder = watching(ground)
    marker = ground.root / ".endpoint-storage"
    content = marker.read_text()
    marker.unlink()
    ground.put("a")
    assert "marker" in cycle(finder).blocked
    marker.write_text(content)
    assert cycle(finder).done == 1


def test_a_failed_batch_is_found_again(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = watching(ground)
    ground.put("a")
    with monkeypatch.context() as patch:
        patch.setattr("buffer.takein.look_up", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cycle(finder)
    assert cycle(finder).done == 1


def test_records_in_place(ground: Ground) -> None:
    finder = watching(
        ground, source=str(ground.root), actions={"standard": "Noop", "alternative": "Noop"}
    )
    (ground.root / "day").mkdir()
    (ground.root / "day/a").write_bytes(b"a")
    assert cycle(finder).done == 1
    assert cycle(finder).quiet and finder.counters["scans"] == 1
    ground.check()


def test_once_is_full_scans(ground: Ground) -> None:
    section = ground.finder(search={"method": "watch", "delay": 0})._config
    finder = Finder(section, ground.storage, once=True)
    for _ in range(2):
        assert cycle(finder).quiet
    assert finder.wakes is None and finder.counters["quiet_scans"] == 2
