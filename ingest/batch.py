"""One claim, from the checks of its files to the last outcome: one batch after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from django.db import DatabaseError, InterfaceError

from buffer import outages, patience
from buffer import steps as protocol
from ingest import breaker, claims
from ingest.attempt import attempt
from ingest.causes import cause_of
from ingest.checks import Check, StorageUnavailable, first_objection
from ingest.claims import Claim, Claimed
from ingest.holding import Holding, LeaseLost
from ingest.host_errors import PluginUnavailable
from ingest.ledger import Ledger
from ingest.outcomes import Outcomes
from ingest.pace import GIVE_BACK_AFTER_S
from ingest.plugin_host import PluginHost
from ingest.plugins.base import PluginConfigError
from ingest.questions import Question
from ingest.statuses import Status
from ingest.targets import Run
from ingest.verdicts import StopRequested, Verdict, VerdictKind

logger = logging.getLogger(__name__)


class Batch:
    """One claim, from its checks to its last outcome.

    Parameters
    ----------
    claim : `Claim`
        What is held.
    run : `Run`
        How to work on it.
    host : `PluginHost`
        With the plugin loaded.
    checks : `~collections.abc.Sequence` [`Check`]
        What each file must pass first.
    require_storage : callable
        Raises if the storage area is not mounted.
    may_claim : callable
        Tells, after a batch, whether files may still be claimed, and so another one be begun.
    stopping : callable
        Tells whether to give up what is not finished soon.
    beat : callable
        Called at least every quarter of a second.
    probing : `bool`, optional
        Whether this is to show whether the target answers again.
    """

    def __init__(
        self,
        claim: Claim,
        run: Run,
        host: PluginHost,
        checks: Sequence[Check],
        *,
        require_storage: Callable[[], None],
        may_claim: Callable[[], bool],
        stopping: Callable[[], bool],
        beat: Callable[[], None],
        probing: bool = False,
    ) -> None:
        self._claim, self._run, self._host, self._checks = claim, run, host, checks
        self._require_storage = require_storage
        self._may_claim = may_claim
        self._stopping, self._beat = stopping, beat
        self._probing = probing
        #: Whether the target was asked for anything.
        self.tried = False
        self._ledger = Ledger(claim)
        self._outcomes = Outcomes(run, host, self._ledger, probing=probing)
        #: What is not begun, and until when it is held.
        self._left = list(claim.files)
        self._give_back_on = time.monotonic() + GIVE_BACK_AFTER_S
        #: How many files have been given back before they were begun.
        self.given_back = 0
        #: What is under way: a batch, by its paths, and how many of it have a verdict.
        self._by_path: dict[str, Claimed] = {}
        self._concluded = 0
        self._holding = Holding(
            claim, self._ledger, under_way=self._is_under_way, stopping=stopping, beat=beat
        )

    def work(self) -> None:
        """Bring every file of the claim to an outcome, or give it back.

        Raises
        ------
        StorageUnavailable
            The storage area is not mounted; what was not begun is given back.
        """
        try:
            if self._is_question(self._left[0]):
                # Lanes are not mixed: all of this claim are.
                self._left = self._ask(self._left)
            while self._left:
                self._begin(self._left[: self._run.section.batch_size])
                self._attempt()
                if self._left and not self._may_go_on():
                    break
        except StorageUnavailable:
            self._drop()
            raise
        except StopRequested as error:
            logger.info("claim %s: what was not begun is given back: %s", self._claim.token, error)
        except LeaseLost as error:
            logger.warning("claim %s: %s", self._claim.token, error)
        except (PluginConfigError, PluginUnavailable) as error:
            # The files it had not begun have been given back.
            self._say_not_loaded(error)
        finally:
            self._ledger.flush_all(stopping=self._stopping, beat=self._beat)
        self._drop()

    def _ask(self, wanted: list[Claimed]) -> list[Claimed]:
        """Ask the target for files of which nobody knows; give those that are to be tried."""
        question = Question(
            self._claim, self._run, self._host, self._ledger,
            tick=self._holding.tick, probing=self._probing,
        )  # fmt: skip
        left = question.ask({self._path(one): one for one in wanted})
        self.tried = question.unanswered
        return left

    def _may_go_on(self) -> bool:
        """Tell whether to begin another batch of the claim."""
        if self._stopping() or time.monotonic() >= self._give_back_on:
            return False
        if self._ledger.has_failures:
            # They may have the ingester pause.
            self._ledger.flush_all(stopping=self._stopping, beat=self._beat)
        try:
            return self._may_claim()
        except outages.UNAVAILABLE as error:
            outages.away(error)
            return False

    def _attempt(self) -> None:
        """Have the plugin ingest what was begun, and note what became of it."""
        self.tried = self.tried or bool(self._by_path)
        verdicts = attempt(
            self._host,
            list(self._by_path),
            timeout_s=self._run.section.timeout,
            tick=self._tick,
        )
        with closing(verdicts):  # type: ignore[type-var]
            for verdict in verdicts:
                self._conclude(verdict)

    def _tick(self) -> None:
        """Hold the claim while the plugin works; not for long what waits for the next batch."""
        self._holding.tick()
        if self._left and time.monotonic() >= self._give_back_on:
            try:
                with patience.until(self._holding.until):
                    self._drop()
            except (DatabaseError, InterfaceError) as error:
                outages.away(error)
                self._give_back_on = time.monotonic() + 1.0

    def _drop(self) -> None:
        """Give up the claim on what was not begun."""
        if self._left:
            claims.drop(self._claim, [claimed.ingestion_id for claimed in self._left])
            self.given_back += len(self._left)
            self._left = []

    def _say_not_loaded(self, error: Exception) -> None:
        message = self._run.cannot_load(error)
        logger.warning("%s", message)
        breaker.failed_load(self._run.ingester_id, message)

    def _is_question(self, claimed: Claimed) -> bool:
        """Tell whether a file was claimed to find out what became of it."""
        return claimed.status == Status.UNKNOWN and (
            Status.UNKNOWN not in self._run.section.file_status
        )

    def _path(self, claimed: Claimed) -> str:
        """Give a file's path on this host."""
        return f"{self._run.root}/{claimed.path}"

    def _begin(self, wanted: list[Claimed]) -> None:
        """Make claimed files PENDING, and those that are objected to what they are.

        Nothing is written before all were looked at.
        """
        self._by_path, self._concluded = {}, 0
        steps = []
        for claimed in wanted:
            # Thousands of files on a slow file system take longer than a lease.
            self._holding.tick()
            path = self._path(claimed)
            objection = first_objection(self._checks, claimed.path, path)
            if objection is not None and objection.status == Status.INVALID:
                self._require_storage()
            if objection is None:
                self._by_path[path] = claimed
                step = self._ledger.step(
                    claimed, Status.PENDING, claimed.status, claimed.attempts + 1
                )
            else:
                step = self._ledger.step(
                    claimed,
                    objection.status,
                    claimed.status,
                    claimed.attempts,
                    message=objection.message,
                    cause=cause_of(objection.message),
                )
            steps.append(step)
        began = {
            step.ingestion_id
            for step in self._ledger.begin(
                steps,
                until=self._holding.until,
                stopping=self._stopping,
                beat=self._beat,
            )
        }
        self._by_path = {
            path: claimed
            for path, claimed in self._by_path.items()
            if claimed.ingestion_id in began
        }
        del self._left[: len(wanted)]

    def _conclude(self, verdict: Verdict) -> None:
        """Note a verdict; it is written with others, soon."""
        claimed = self._by_path[verdict.path]
        protocol.reached("verdict seen")
        self._concluded += 1
        if verdict.kind is VerdictKind.FAILURE:
            try:
                self._require_storage()
            except StorageUnavailable as error:
                # It failed for want of the file, most likely; and nothing was ingested.
                verdict = replace(
                    verdict, kind=VerdictKind.GIVE_BACK, message=f"given back: {error}"
                )
        # The plugin goes on meanwhile: nobody would hold the claim while the database hangs.
        with patience.until(self._holding.until):
            self._ledger.add(self._outcomes.of(claimed, verdict))

    def _is_under_way(self) -> bool:
        """Tell whether files of the claim have no verdict, so that it must be held for them."""
        return bool(self._left) or self._concluded < len(self._by_path)
