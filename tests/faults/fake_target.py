"""A target without processes: what a plugin host tells of a plugin that does as it is bidden."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Sequence
from typing import Final

from ingest.host_errors import HostDied, IngestRaised, PluginUnavailable
from ingest.plugins.base import Outcome
from tests.faults.points import Points

Tick = Callable[[], None]

#: What a plugin can do with one file.
BEHAVIOURS: Final = (
    "takes it",
    "refuses it",
    "is busy",
    "raises",
    "dies",
    "takes it and dies",
    "is silent",
    "takes it and is silent",
)


class FakeTarget:
    """What got in, and how often."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()


class FakeHost:
    """Stands in for `ingest.plugin_host.PluginHost`.

    Parameters
    ----------
    target
        Where files go.
    points
        What it passes.
    in_order, has_contains
        What the plugin offers.
    """

    plugin = "tests.Fake"
    version = "1"

    def __init__(
        self, target: FakeTarget, points: Points, *, in_order: bool, has_contains: bool
    ) -> None:
        self._target, self._points = target, points
        self.in_order, self.has_contains = in_order, has_contains
        self.alive = self.called = False
        #: The target is down.
        self.down = False
        #: What to do with the next files; then the plugin takes them all.
        self.script: list[str] = []
        #: What happens elsewhere while the plugin works, once.
        self.meanwhile: list[Callable[[], None]] = []

    def start(self, tick: Tick | None = None) -> None:
        """Load the plugin."""
        if self.down and not self.alive:
            raise PluginUnavailable("the target is down")
        self.alive = True

    def close(self) -> None:
        """End the plugin."""
        self.alive = False

    def ingest(
        self, paths: Sequence[str], *, timeout_s: float, tick: Tick | None = None
    ) -> Generator[Outcome, None, None]:
        """Do with each file what the script says."""
        assert self.alive
        self.called = True
        tick = tick or (lambda: None)
        self._points.reached("plugin called")
        while self.meanwhile:
            with self._points.others():
                self.meanwhile.pop(0)()
        tick()
        for path in paths:
            self._points.reached("plugin at a file")
            yield from self._ingest(path, self.script.pop(0) if self.script else "takes it")
            tick()

    def _ingest(self, path: str, behaviour: str) -> Generator[Outcome, None, None]:
        if behaviour.startswith("takes it"):
            self._target.taken[path] += 1
        match behaviour:
            case "takes it":
                yield Outcome.success(path)
            case "refuses it":
                yield Outcome.failure(path, "told to refuse it")
            case "is busy":
                yield Outcome.failure(path, "told to be busy", transient=True)
            case "raises":
                raise IngestRaised("ValueError: told to raise")
            case "dies" | "takes it and dies":
                self.alive = False
                raise HostDied("the plugin's process was told to die")

    def contains(
        self, paths: Sequence[str], *, timeout_s: float, tick: Tick | None = None
    ) -> Collection[str]:
        """Tell which files got in."""
        assert self.alive
        self._points.reached("plugin asked")
        return {path for path in paths if self._target.taken[path]}
