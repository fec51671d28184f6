"""One claimed batch, from its checks to the last outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from buffer import steps as protocol
from ingest import breaker, claims
from ingest.attempt import attempt
from ingest.breaker import Outcome
from ingest.causes import cause_of
from ingest.checks import Check, StorageUnavailable, first_objection
from ingest.claims import Claim, Claimed
from ingest.holding import Holding, LeaseLost
from ingest.host_errors import PluginUnavailable
from ingest.ledger import Ledger
from ingest.plugin_host import PluginHost
from ingest.plugins.base import PluginConfigError
from ingest.questions import Question
from ingest.retries import next_attempt_on
from ingest.statuses import DEFAULT_WANTED, Status
from ingest.targets import Run
from ingest.transitions import Step
from ingest.verdicts import StopRequested, Verdict, VerdictKind

logger = logging.getLogger(__name__)

_STATUS_OF: Final = {
    VerdictKind.SUCCESS: Status.SUCCESS,
    VerdictKind.FAILURE: Status.FAILURE,
    VerdictKind.UNKNOWN: Status.UNKNOWN,
}


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
        stopping: Callable[[], bool],
        beat: Callable[[], None],
        probing: bool = False,
    ) -> None:
        self._claim, self._run, self._host, self._checks = claim, run, host, checks
        self._require_storage = require_storage
        self._stopping, self._beat = stopping, beat
        self._probing = probing
        #: Whether the target was asked for anything.
        self.tried = False
        self._ledger = Ledger(claim)
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
            The storage area is not mounted; nothing was begun.
        """
        wanted = list(self._claim.files)
        if self._is_question(wanted[0]):
            # Lanes are not mixed: all of this claim are.
            question = Question(
                self._claim, self._run, self._host, self._ledger,
                tick=self._holding.tick, probing=self._probing,
            )  # fmt: skip
            try:
                wanted = question.ask({self._path(one): one for one in wanted})
            except (LeaseLost, StopRequested):
                self._drop(wanted)
                return
            except (PluginConfigError, PluginUnavailable) as error:
                self._drop(wanted)
                self._say_not_loaded(error)
                return
            self.tried = question.unanswered
        try:
            self._begin(wanted)
        except StorageUnavailable:
            self._drop(wanted)
            raise
        except (LeaseLost, StopRequested) as error:
            logger.info(
                "claim %s is given up before anything was begun: %s", self._claim.token, error
            )
            self._drop(wanted)
            return
        self.tried = self.tried or bool(self._by_path)
        try:
            verdicts = attempt(
                self._host,
                list(self._by_path),
                timeout_s=self._run.section.timeout,
                tick=self._holding.tick,
            )
            with closing(verdicts):  # type: ignore[type-var]
                for verdict in verdicts:
                    self._conclude(verdict)
        except LeaseLost as error:
            logger.warning("claim %s: %s", self._claim.token, error)
        except (PluginConfigError, PluginUnavailable) as error:
            # The files it had not begun have been given back.
            self._say_not_loaded(error)
        finally:
            self._ledger.flush_all(stopping=self._stopping, beat=self._beat)

    def _drop(self, held: list[Claimed]) -> None:
        claims.drop(self._claim, [claimed.ingestion_id for claimed in held])

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
        """Make the claimed files PENDING, and those that are objected to what they are.

        Nothing is written before all were looked at.
        """
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
        if verdict.kind is VerdictKind.GIVE_BACK:
            note = verdict.message or "given back: the attempt never started"
            self._ledger.add(Outcome(self._back(claimed, note=note)))
            return
        status, attempts = _STATUS_OF[verdict.kind], claimed.attempts + 1
        succeeded = status == Status.SUCCESS
        transient = status == Status.FAILURE and verdict.transient
        seen: dict[str, Any] = {
            "version": verdict.version[:255],
            "start_time": timezone.now() - timedelta(seconds=verdict.duration_s),
            "duration": verdict.duration_s,
        }
        step = self._ledger.step(
            claimed,
            status,
            Status.PENDING,
            attempts,
            message="" if succeeded else verdict.message,
            cause="" if succeeded else cause_of(verdict.message),
            note=verdict.message if succeeded else "",
            next_attempt_on=next_attempt_on(
                self._run.section.retry,
                status,
                attempts,
                transient=transient or (status == Status.UNKNOWN and self._host.has_contains),
            ),
            **seen,
        )
        note = breaker.PROBE_FAILED if self._probing else breaker.GIVEN_BACK
        self._ledger.add(
            Outcome(
                step,
                # Whoever refuses a file for what it is answers, too.
                answer=status != Status.UNKNOWN and not transient,
                instead=self._back(claimed, message=verdict.message, note=note, **seen)
                if transient
                else None,
            )
        )

    def _back(self, claimed: Claimed, **said: Any) -> Step:
        """Make a file what it was before it was claimed, uncharged."""
        return self._ledger.step(
            claimed,
            claimed.status,
            Status.PENDING,
            claimed.attempts,
            next_attempt_on=self._due_again(claimed),
            **said,
        )

    def _due_again(self, claimed: Claimed) -> datetime | None:
        """Files that do not wait by their status alone are due still."""
        return None if claimed.status in DEFAULT_WANTED else timezone.now()

    def _is_under_way(self) -> bool:
        """Tell whether files of the claim have no verdict, so that it must be held for them."""
        return not self._by_path or self._concluded < len(self._by_path)
