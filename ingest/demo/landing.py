"""Files land in the buffer: in any order, one of them slowly, some a second time."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from buffer.models import File, Refusal
from ingest.demo.place import Place
from ingest.demo.samples import Arrival, Sample

#: The same order in every run, but not that of the names.
_SEED: Final = 20151010
_PIECES: Final = 10
#: Shorter than the quiet time that the finder waits for, as any writer's pauses have to be where
#: the file system cannot tell who has a file open; seconds.
_PAUSE_S: Final = 0.6
_TIMEOUT_S: Final = 90.0


class NotTakenIn(Exception):
    """The finder did not do in time what it should have."""


def write_originals(place: Place, samples: list[Sample]) -> None:
    """Make every file, outside the buffer."""
    for sample in samples:
        path = original(place, sample)
        path.parent.mkdir(parents=True, exist_ok=True)
        sample.write(path)


def original(place: Place, sample: Sample) -> Path:
    """Give the path of a file as it was made."""
    # A conflict has the same path as the file that it clashes with.
    return place.sent / sample.arrival.name.lower() / sample.path


class SlowWriter(threading.Thread):
    """Writes a file into the buffer piece by piece, and keeps it open all the while."""

    def __init__(self, place: Place, sample: Sample) -> None:
        super().__init__(name="slow writer", daemon=True)
        self._content = original(place, sample).read_bytes()
        self._target = place.buffer / sample.path
        self.finished_on: datetime | None = None
        self.seconds = 0.0

    def run(self) -> None:
        """Write."""
        size = -(-len(self._content) // _PIECES)
        begun = time.monotonic()
        self._target.parent.mkdir(parents=True, exist_ok=True)
        with self._target.open("wb", buffering=0) as target:
            for start in range(0, len(self._content), size):
                target.write(self._content[start : start + size])
                time.sleep(_PAUSE_S)
            # Before it is closed: the finder may be as quick as it likes afterwards.
            self.finished_on = datetime.now(UTC)
        self.seconds = time.monotonic() - begun


def land(
    place: Place, samples: list[Sample], check: Callable[[], None], *, pause_s: float = 0.1
) -> SlowWriter:
    """Let files arrive while the finder is at work; return when the finder is done with all.

    Parameters
    ----------
    place : `ingest.demo.place.Place`
        The demo's directory.
    samples : `list` [`ingest.demo.samples.Sample`]
        All files; those that were there before are passed over.
    check : callable
        Called again and again while waiting; may raise.
    pause_s : `float`, optional
        Between two arrivals, in seconds.

    Raises
    ------
    NotTakenIn
        The finder was not done in time.
    """
    first = [sample for sample in samples if sample.arrival is Arrival.LANDS]
    second = [sample for sample in samples if not sample.is_taken_in]
    slow = next(sample for sample in samples if sample.arrival is Arrival.SLOWLY)
    random.Random(_SEED).shuffle(first)
    writer = SlowWriter(place, slow)
    writer.start()
    for sample in first:
        _send(place, sample)
        time.sleep(pause_s)
    # What is sent a second time meets a file that is stored already.
    _wait(lambda: _are_stored(sample.stored_as for sample in second), check, "the first files")
    for sample in second:
        _send(place, sample)
    writer.join(_TIMEOUT_S)
    taken_in = [sample.path for sample in (*first, slow)]
    _wait(lambda: _are_stored(taken_in), check, "all files")
    _wait(lambda: Refusal.objects.count() >= len(second), check, "the duplicate and the conflict")
    return writer


def _send(place: Place, sample: Sample) -> None:
    target = place.buffer / sample.path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(original(place, sample), target)


def _are_stored(paths: Iterable[str]) -> bool:
    wanted = set(paths)
    stored = {file.path for file in File.objects.filter(stored_on__isnull=False)}
    return wanted <= stored


def _wait(done: Callable[[], bool], check: Callable[[], None], what: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not done():
        check()
        if time.monotonic() > deadline:
            raise NotTakenIn(f"the finder is not done with {what} after {_TIMEOUT_S:g} s")
        time.sleep(0.2)
