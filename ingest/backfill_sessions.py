"""What a worker of backfill does with one chunk (django-q2 tasks)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from django.db import close_old_connections

from buffer import outages
from buffer.board import beat, stopping
from buffer.io_errors import why
from buffer.storages import NotMounted
from ingest.backfill import BackfillRun, Recorder
from ingest.backfill_crew import write_receipt
from ingest.backfill_files import Stopped
from ingest.backfill_verify import CannotVerify, Verifier

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 4.0
_STEP_S: Final = 0.1

# By run: what was loaded for one chunk serves the others.
_recorders: dict[int, Recorder] = {}
_verifiers: dict[int, Verifier] = {}

Receipt = Callable[[Counter[str]], None]


def record_session(run_id: int, number: int, paths: list[str]) -> None:
    """Record a chunk of files.

    Parameters
    ----------
    run_id : `int`
        Id of the component row of the command that sent it.
    number : `int`
        Number of the chunk.
    paths : `list` [`str`]
        Paths below the storage root.
    """

    def work(receipt: Receipt) -> None:
        if run_id not in _recorders:
            _recorders[run_id] = Recorder(BackfillRun.load(run_id))
        _recorders[run_id].record(paths, receipt)

    _work(run_id, number, work)


def verify_session(run_id: int, number: int, paths: list[str]) -> None:
    """Ask the target about a chunk of files; parameters as for `record_session`."""

    def work(receipt: Receipt) -> None:
        if run_id not in _verifiers:
            _verifiers[run_id] = Verifier(BackfillRun.load(run_id))
        _verifiers[run_id].verify(paths, receipt)

    _work(run_id, number, work)


def _work(run_id: int, number: int, work: Callable[[Receipt], None]) -> None:
    pause = FIRST_PAUSE_S
    while not stopping():
        close_old_connections()
        try:
            try:
                work(lambda counters: write_receipt(run_id, number, counters))
            except (NotMounted, CannotVerify) as error:
                write_receipt(run_id, number, {}, blocked=str(error))
            except OSError as error:
                blocked = f"the storage area fails: {why(error).detail}"
                write_receipt(run_id, number, {}, blocked=blocked)
            outages.answers()
            return
        except Stopped:
            return
        except outages.UNAVAILABLE as error:
            # Nothing of the chunk is written. Keep it rather than lose it: the command finds
            # lost ones, but counts how often they are.
            outages.away(error)
        _rest(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _rest(seconds: float) -> None:
    end = time.monotonic() + seconds
    while not stopping() and (left := end - time.monotonic()) > 0:
        beat()
        time.sleep(min(_STEP_S, left))
