"""A worker: loads the plugin, and works on one claimed batch after the other."""

from __future__ import annotations

from collections.abc import Callable

from buffer.components import worker_name
from ingest import claims
from ingest.batch import Batch
from ingest.checks import checks
from ingest.plugin_host import PluginHost, PluginUnavailable
from ingest.plugins.base import PluginConfigError
from ingest.targets import Run


class TargetUnavailable(Exception):
    """The plugin cannot be loaded now; no file was claimed, none is charged an attempt."""


class Worker:
    """Works on the files of one run of an ingester, with a plugin host of its own.

    Parameters
    ----------
    run : `Run`
        What to work on and how.
    stopping : callable
        Tells whether to give up what is not finished soon.
    beat : callable
        Called at least every quarter of a second while working.
    """

    def __init__(self, run: Run, *, stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        self.run = run
        self._stopping, self._beat = stopping, beat
        self._name = worker_name()
        self._lanes = run.lanes()
        self._checks = checks(run.section.include_list, run.section.exclude_list)
        self._host = PluginHost(run.plugin, run.section.plugin.config)

    def close(self) -> None:
        """End the plugin host."""
        self._host.close()

    def step(self) -> int:
        """Claim one batch and work on it.

        Returns
        -------
        done : `int`
            How many files were claimed; 0 when nothing waits.

        Raises
        ------
        TargetUnavailable
            The plugin cannot be loaded now.
        django.db.DatabaseError
            The database does not answer. What is claimed lapses, unless it was recorded.
        """
        if not claims.anything_waits(self.run.ingester_id, self._lanes):
            return 0
        self._start_host()
        claim = claims.claim(
            self.run.ingester_id, self._lanes, self.run.section.batch_size, self._name
        )
        if claim is None:
            return 0
        Batch(
            claim, self.run, self._host, self._checks, stopping=self._stopping, beat=self._beat
        ).work()
        return len(claim.files)

    def _start_host(self) -> None:
        """Load the plugin before anything is claimed, so that no file pays for its failure."""
        if self._host.alive:
            return
        try:
            self._host.start(self._beat)
        except (PluginConfigError, PluginUnavailable) as error:
            raise TargetUnavailable(
                f"plugin {self.run.section.plugin.name} cannot be loaded: {error}"
            ) from error
