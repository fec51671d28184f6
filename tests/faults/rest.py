"""The end of a run of the state machine: nothing waits for ever, every file is where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from buffer.models import TRANSIENT_REASONS, File, Refusal
from ingest.models import FileEvent, Ingestion
from ingest.statuses import Status
from tests import invariants
from tests.faults.state_model import World

#: Where a file may stay for good without a person.
FINAL: Final = (
    Status.SUCCESS,
    Status.FAILURE,
    Status.UNKNOWN,
    Status.INVALID,
    Status.BACKFILL,
)


def come_to_rest(world: World, cycle: Callable[[int], None]) -> None:
    """Let everything go on undisturbed until nothing changes any more.

    Parameters
    ----------
    world
        Everything.
    cycle
        Runs a finder's cycle.
    """
    for path in list(world.writers):
        world.close(path)
    world.finders = [None, None]
    for path in sorted(world.foreign):
        world.backfill(path)
    quiet = 0
    for _ in range(30):
        before = _state(world)
        world.pass_time(4000.0)
        for number in (0, 1):
            cycle(number)
            world.sweep(number)
            world.openers[number].step()
            world.openers[number].sweep()
            for worker in (0, 1):
                while world.work(number, worker):
                    pass
        # A file is seen in one cycle, and settled in another.
        quiet = quiet + 1 if _state(world) == before else 0
        if quiet == 3:
            return
    raise AssertionError(f"no rest: {before} and then {_state(world)}")


def _state(world: World) -> object:
    return (
        FileEvent.objects.count(),
        File.objects.stored().count(),
        File.objects.intents().count(),
        File.objects.unreleased().count(),
        Refusal.objects.unresolved().count(),
        world.arrivals(),
    )


def check_at_rest(world: World) -> None:
    """Check that nothing waits for ever, and that every file is where it belongs."""
    assert not File.objects.intents().exists(), "intents that nobody completes or undoes"
    assert not File.objects.unreleased().exists(), "sources that nobody releases"
    incoming = [name for name in invariants.contents(world.root) if name.endswith(".part")]
    assert not incoming, f"left of copies: {incoming}"
    refused = {(row.source, row.path): row.reason for row in Refusal.objects.unresolved()}
    for path in world.arrivals():
        (source,) = (source for source in world.sources if path.is_relative_to(source))
        reason = refused.get((str(source), str(path.relative_to(source))))
        assert reason is not None, f"{path} stays in the buffer and nobody says why"
        assert reason not in TRANSIENT_REASONS, f"{path} waits for ever: {reason}"
    for number in (0, 1):
        _check_ingester(world, number)


def _check_ingester(world: World, number: int) -> None:
    rows = Ingestion.objects.filter(ingester=world.ingesters[number])
    known = set(rows.values_list("file_id", flat=True))
    assert known == set(File.objects.stored().values_list("id", flat=True)), "never opened"
    taken = world.targets[number].taken
    for row in rows.select_related("file"):
        name = f"{row.file} at ingester {number}"
        path = row.file.path_below(world.root)
        assert row.claim is None, f"{name} is claimed for ever"
        assert row.next_attempt_on is None, f"{name} is due and never tried"
        assert row.status in FINAL, f"{name} stays {row.status}"
        if row.status == Status.SUCCESS:
            assert taken[path], f"{name} is said to be in the target"
        if row.status == Status.UNKNOWN and not number:
            assert not taken[path], f"{name} is in the target, which can tell"
        tried = FileEvent.objects.filter(
            file=row.file_id, ingester=row.ingester_id, status=Status.PENDING
        ).count()
        assert taken[path] <= tried, f"{name} was given to the target behind our back"
