"""Products with one fault built in, to show that the tests would notice it.

``DJANGO_SETTINGS_MODULE=tests.faults.mutant_settings MUTANT=name`` makes a command such a product.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
from typing import Any

from django.apps import AppConfig

from buffer import board


class Mutants(AppConfig):
    """An app that does nothing but hurt the others."""

    name = "tests.faults"
    label = "mutants"

    def ready(self) -> None:
        globals()[os.environ["MUTANT"]]()


def never_swept() -> None:
    """What the dead have claimed stays claimed."""
    from ingest import sweeping

    sweeping.Sweeper.sweep = lambda self: sweeping.Swept([], 0)  # type: ignore[method-assign]


def blind() -> None:
    """Whatever the target has, it is said to have nothing."""
    from ingest.plugin_host import PluginHost

    PluginHost.contains = lambda self, *_, **__: set()  # type: ignore[assignment, method-assign]


def queues_as_published() -> None:
    """Whoever waits for work holds a lock meanwhile, as in django-q2 without our queues."""
    from buffer import cluster

    cluster.PacketQueue = LockedQueue  # type: ignore[assignment, misc]


def queues_as_published_and_nobody_looks() -> None:
    """The same without what notices that work waits although workers are idle."""
    from buffer.watchdog import Watchdog

    queues_as_published()
    Watchdog._canary = lambda self, now: None  # type: ignore[method-assign]


class LockedQueue:
    """A queue of `multiprocessing`, whose readers give signs of life as ours do."""

    def __init__(self, *, handover: bool = False) -> None:
        context = multiprocessing.get_context("fork")
        self._queue: Any = context.Queue(maxsize=1 if handover else 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def get(self) -> Any:
        """Give the next item, which whoever holds the lock waits for."""
        while True:
            board.waiting()
            with contextlib.suppress(queue.Empty):
                item = self._queue.get(timeout=1)
                board.took()
                return item
