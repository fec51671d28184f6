"""A worker: loads the plugin, and works on one claimed batch after the other."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from functools import cached_property

from buffer.components import worker_name
from buffer.models import Storage
from ingest import breaker, claims
from ingest.batch import Batch
from ingest.checks import checks, require_storage
from ingest.claims import Lane
from ingest.host_errors import PluginUnavailable
from ingest.lanes import Lanes
from ingest.pace import Pace
from ingest.plugin_host import PluginHost
from ingest.plugins.base import PluginConfigError
from ingest.probing import Probe
from ingest.statuses import Status
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
        #: Whether files wait that may not be tried: the target does not answer, or a person has
        #: paused the ingester.
        self.paused = False
        self._name = worker_name()
        self._lanes = Lanes(run.ingester_id, run.name, run.lanes(), run_id=run.id)
        self._pace = Pace(run.section.batch_size, run.section.num_threads)
        self._checks = checks(run.section.include_list, run.section.exclude_list)
        #: Tokens of claims of which it is not known whether they were committed.
        self._doubtful: set[uuid.UUID] = set()
        self._host = PluginHost(run.plugin, run.section.plugin.config)

    def close(self) -> None:
        """End the plugin host."""
        self._host.close()

    def step(self) -> int:
        """Claim a batch, or some, and work on them.

        Returns
        -------
        done : `int`
            How many files were claimed; 0 when nothing waits, or nothing may be tried now.

        Raises
        ------
        TargetUnavailable
            The plugin cannot be loaded now.
        StorageUnavailable
            The storage area is not mounted.
        django.db.DatabaseError
            The database does not answer. What is claimed lapses, unless it was recorded.
        """
        ingester = self.run.ingester_id
        self.paused = False
        claims.drop_doubtful(ingester, self._doubtful)
        sight = self._lanes.look()
        if not sight.lanes:
            return 0
        if sight.held_back:
            self.paused = True
            return 0
        self._require_storage()
        if not sight.pauses:
            return self._work(sight.lanes, None)
        probe = Probe.take(ingester)
        if probe is None:
            self.paused = True
            return 0
        try:
            return self._work(sight.lanes, probe)
        finally:
            probe.end()

    def _work(self, lanes: Sequence[Lane], probe: Probe | None) -> int:
        """Claim and work on a batch, or some; or on one file, to probe."""
        beat = self._beat if probe is None else probe.renewing(self._beat)
        self._start_host(beat)
        limit = self._limit(lanes[0]) if probe is None else 1
        claim = claims.claim(
            self.run.ingester_id,
            lanes,
            limit,
            self._name,
            anywhere=probe is not None,
            doubtful=self._doubtful,
        )
        if claim is not None and probe is None:
            self._lanes.claimed(claim, limit)
        if claim is not None:
            batch = Batch(
                claim,
                self.run,
                self._host,
                self._checks,
                require_storage=self._require_storage,
                may_claim=self._lanes.may_claim,
                stopping=self._stopping,
                beat=beat,
                probing=probe is not None,
            )
            begun = time.monotonic()
            batch.work()
            self._pace.took(len(claim.files) - batch.given_back, time.monotonic() - begun)
            if batch.given_back:
                self._lanes.from_the_beginning()
        if probe is not None:
            probe.tried = claim is not None and batch.tried
        return len(claim.files) if claim is not None else 0

    def _limit(self, lane: Lane) -> int:
        """Give how many files to claim at most, if a lane is the first that has any."""
        if lane.status != Status.UNTRIED or lane.due:
            # Few, as a rule.
            return self.run.section.batch_size
        return self._pace.limit(lambda n: claims.more_wait(self.run.ingester_id, lane, n))

    @cached_property
    def _storage(self) -> Storage:
        return Storage.objects.get(ingester=self.run.ingester_id)

    def _require_storage(self) -> None:
        require_storage(self._storage, self.run.root)

    def _start_host(self, beat: Callable[[], None]) -> None:
        """Load the plugin before anything is claimed, so that no file pays for its failure."""
        if self._host.alive:
            return
        try:
            self._host.start(beat)
        except (PluginConfigError, PluginUnavailable) as error:
            message = self.run.cannot_load(error)
            breaker.failed_load(self.run.ingester_id, message)
            raise TargetUnavailable(message) from error
