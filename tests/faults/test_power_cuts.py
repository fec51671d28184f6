"""Power cuts during take-in: what the database calls stored is on the medium.

Buffer and storage are on file systems of their own, whose device is copied as it is at the cut;
the database is elsewhere and keeps every commit. With both on one disk its journal hides what is
not synced.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.dying import kill_at
from tests.faults.images import Image, directory_in_memory, make_template
from tests.faults.landing import ADOPTED, ARRIVALS, NEW, WAYS, Landing
from tests.faults.test_take_in import KILLED
from tests.tally import Tally

FEW = {name: NEW[name] for name in ("byte", "a/b/page", "2026-11-25/block", "a/b/c/d/deep")}
MANY = {**ARRIVALS, **ADOPTED}

#: How many steps before the cut somebody else last synced the journal.
#: None: nobody did, and only what the finder syncs is on the device.
NEIGHBOURS = (None, 0, 3)


class Power:
    """Makes a fresh ground for every cut.

    Parameters
    ----------
    directory
        Where images and mount points are made.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._template = directory, directory / "template"
        self._images: list[Image] = []
        make_template(self._template)

    def fresh(self, way: str, arrivals: dict[str, bytes]) -> Landing:
        """Make file systems on which everything is on the medium but every other arrival."""
        names = ["one", "two"] if way == "copy" else ["one"]
        for name in names:
            self._images.append(Image(self._template, self._directory, name))
        root = self._images[-1].mount_point / "store"
        landing = Landing(self._images[0].mount_point, root, way)
        if arrivals is MANY:
            landing.prepare()
        names = list(arrivals)
        landing.land({name: arrivals[name] for name in names[::2]})
        for image in self._images:
            image.sync()
        # Their sender has not synced these.
        landing.unsynced = {*names[1::2]}
        landing.land({name: arrivals[name] for name in names[1::2]})
        return landing

    def commit_journal(self) -> None:
        for image in self._images:
            image.commit_journal()

    def cut(self) -> None:
        for image in self._images:
            image.cut()
        for image in self._images:
            image.power_on()

    def clear(self, landing: Landing | None = None) -> None:
        if landing is not None:
            landing.clear()
        while self._images:
            self._images.pop().close()

    def close(self) -> None:
        self.clear()
        self._template.unlink(missing_ok=True)
        self._directory.rmdir()


@pytest.fixture
def power(transactional_db: None) -> Iterator[Power]:
    """File systems for one cut after the other."""
    power = Power(directory_in_memory(f"endpoint-{uuid.uuid4().hex[:12]}"))
    try:
        yield power
    finally:
        power.close()


def run_and_cut(
    power: Power, landing: Landing, step: int, neighbour: int | None, **options: Any
) -> bool:
    """Run a finder and cut the power at a step, or at the end; tell if there was such a step."""

    def before(count: int) -> None:
        if neighbour is not None and count == step - neighbour:
            power.commit_journal()

    status = landing.run(kill_at(step, before), **options)
    assert status in (0, KILLED)
    power.cut()
    return status == KILLED


@pytest.mark.parametrize(
    ("arrivals", "stride", "neighbours"),
    [
        pytest.param(FEW, 1, NEIGHBOURS, marks=pytest.mark.full, id="few, all"),
        pytest.param(MANY, 3, NEIGHBOURS, marks=pytest.mark.full, id="many, all"),
        pytest.param(FEW, 13, NEIGHBOURS[1:2], id="few, some"),
        pytest.param(MANY, 67, NEIGHBOURS[1:2], id="many, some"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.timeout(1200)
def test_power_cut_at_a_step(
    power: Power,
    way: str,
    arrivals: dict[str, bytes],
    stride: int,
    neighbours: tuple[int | None, ...],
    tally: Tally,
) -> None:
    cuts, longest = 0, 0.0
    for neighbour in neighbours:
        step, more = min(stride, 7), True
        while more:
            landing = power.fresh(way, arrivals)
            more = run_and_cut(power, landing, step, neighbour, fsync=True)
            where = f"{way}, cut at step {step}, neighbour {neighbour}"
            assert landing.check_after_fault() == [], where
            begin = time.monotonic()
            assert landing.run(fsync=True) == 0, where
            longest = max(longest, time.monotonic() - begin)
            try:
                landing.check_healed()
            except AssertionError as error:
                raise AssertionError(f"{where}: {error}") from error
            power.clear(landing)
            cuts += 1
            step += stride
    tally(f"power cut during take-in, {way}", cuts, longest)


@pytest.mark.parametrize(
    ("stride", "neighbours"),
    [
        pytest.param(5, NEIGHBOURS, marks=pytest.mark.full, id="all"),
        pytest.param(60, NEIGHBOURS[:1], id="some"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.timeout(1200)
def test_without_syncs_a_power_cut_is_found_to_lose_files(
    power: Power, way: str, stride: int, neighbours: tuple[int | None, ...], tally: Tally
) -> None:
    """The test above can fail."""
    cuts, losses = 0, []
    for neighbour in neighbours:
        step, more = 45, True
        while more:
            landing = power.fresh(way, MANY)
            more = run_and_cut(power, landing, step, neighbour, fsync=False)
            losses.append(len(landing.check_after_fault()))
            power.clear(landing)
            cuts += 1
            step += stride
    losing = sum(map(bool, losses))
    assert losing
    tally(f"power cut with finder.fsync: false, {way}", cuts, note=f"{losing} of {cuts} lose files")
