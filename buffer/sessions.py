"""What a finder's worker does when it is woken: cycles, for some seconds."""

from __future__ import annotations

import logging
import math
import select
import time
from typing import Final

from django.db import close_old_connections

from buffer import operator_pauses, outages
from buffer.board import beating, stopping
from buffer.components import Heartbeat
from buffer.finder import Finder
from buffer.finder_config import Finder as FinderSection
from buffer.inotify import Notices
from buffer.models import Component, Storage
from buffer.operator_pauses import Pausable

logger = logging.getLogger(__name__)

#: How long a session goes on before it returns to the queue; seconds.
SESSION_S: Final = 10.0
#: Longest time in which a stop is noticed while there is nothing to do; seconds.
_STEP_S: Final = 0.1
#: Pause between cycles that found nothing to do, whatever is configured; seconds.
_SHORTEST_S: Final = 0.02
#: Pause while nothing can be taken in; seconds.
_BLOCKED_S: Final = 1.0

# By run: what a finder remembers of settling files lives in its worker.
_finders: dict[int, tuple[Finder, FinderSection, bool]] = {}
_blocked: dict[int, str] = {}
_paused: dict[int, str] = {}


def finder_session(run_id: int) -> None:
    """Run a finder's cycles for a bounded time (a django-q2 task).

    Parameters
    ----------
    run_id : `int`
        Id of the component row of the command that sent it.
    """
    close_old_connections()
    if _is_over(run_id):
        return
    heartbeat = Heartbeat(run_id)
    try:
        finder, config, once = _finder(run_id)
        with beating():
            _run(finder, config, heartbeat, once=once)
    except outages.UNAVAILABLE:
        raise
    except Exception as error:
        # Not meant to happen. Say so to whoever looks at the run; the next session tries again.
        text = str(error).strip().partition("\n")[0]
        heartbeat.beat(message=f"the finder failed: {type(error).__name__}: {text}", now=True)
        _rest(_BLOCKED_S)
        raise


def _run(finder: Finder, config: FinderSection, heartbeat: Heartbeat, *, once: bool) -> None:
    until = time.monotonic() + SESSION_S
    paused = operator_pauses.Watch(_pausable(heartbeat.id))
    while not stopping() and time.monotonic() < until:
        if pause := paused.look():
            _log_pause(heartbeat.id, pause)
            heartbeat.beat(message=pause, measures=finder.measures())
            _rest(operator_pauses.LOOK_EVERY_S)
            continue
        _log_pause(heartbeat.id, "")
        cycle = finder.cycle(until=until, stop=lambda: stopping() or bool(paused.look()))
        _log_change(heartbeat.id, cycle.blocked)
        counters = dict(finder.counters)
        heartbeat.beat(
            message=cycle.blocked,
            counters=counters,
            measures=finder.measures(),
            now=once or stopping(),
        )
        if cycle.blocked:
            _rest(max(config.pause, _BLOCKED_S))
        elif cycle.complete and not cycle.done:
            _rest(max(finder.pause_s(), _SHORTEST_S), finder.wakes, until)
    heartbeat.beat(counters=dict(finder.counters), measures=finder.measures(), now=True)


def _is_over(run_id: int) -> bool:
    """Tell whether a wake-up is a left-over of a run that has ended or was killed."""
    row = Component.objects.filter(pk=run_id).first()
    if row is None or row.stopped_on is not None:
        return True
    newer = Component.objects.filter(
        kind=row.kind, subject=row.subject, host=row.host, pk__gt=run_id
    )
    return newer.exists()


def _pausable(run_id: int) -> Pausable:
    row = Component.objects.only("kind", "subject", "host").get(pk=run_id)
    found = Pausable.of(row)
    assert found is not None
    return found


def _log_pause(run_id: int, pause: str) -> None:
    """Log that a person paused the finder, and that it goes on, once each."""
    before = _paused.get(run_id, "")
    if pause and not before:
        logger.info("the finder is %s", pause)
    elif before and not pause:
        logger.info("the finder goes on")
    _paused[run_id] = pause


def _log_change(run_id: int, blocked: str) -> None:
    """Log that nothing can be taken in, and that it can be again, once each."""
    before = _blocked.get(run_id, "")
    if blocked and blocked != before:
        logger.error("%s; trying again", blocked)
    elif before and not blocked:
        logger.info("files can be taken in again")
    _blocked[run_id] = blocked


def _finder(run_id: int) -> tuple[Finder, FinderSection, bool]:
    found = _finders.get(run_id)
    if found is None:
        settings = Component.objects.get(pk=run_id).settings
        config = FinderSection.model_validate(settings["finder"])
        storage = Storage.objects.get(pk=settings["storage"])
        once = settings["once"]
        found = _finders[run_id] = (Finder(config, storage, once=once), config, once)
    return found


def _rest(seconds: float, wakes: Notices | None = None, until: float = math.inf) -> None:
    """Wait, but not past a stop.

    Parameters
    ----------
    seconds : `float`
        How long.
    wakes : `Notices`, optional
        Something arrives: wait no longer than the shortest pause, in which more may come.
    until : `float`, optional
        Time of the monotonic clock at which to return too, if there is something that wakes.
    """
    end = time.monotonic() + seconds
    if wakes is None:
        while not stopping() and (left := end - time.monotonic()) > 0:
            time.sleep(min(_STEP_S, left))
        return
    end = min(end, until)
    while not stopping() and (left := end - time.monotonic()) > 0:
        if select.select([wakes], [], [], min(_STEP_S, left))[0]:
            time.sleep(_SHORTEST_S)
            return
