"""One claimed batch, from its checks to the last outcome."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from buffer.models import File
from ingest import claims, transitions
from ingest.attempt import StopRequested, Verdict, VerdictKind, attempt
from ingest.causes import cause_of
from ingest.checks import first_objection
from ingest.claims import Claim, Claimed
from ingest.plugin_host import HostDied, IngestRaised, PluginUnavailable
from ingest.plugins.base import PluginConfigError
from ingest.retries import next_attempt_on
from ingest.statuses import Status
from ingest.transitions import Step

if TYPE_CHECKING:
    from ingest.worker import Worker

logger = logging.getLogger(__name__)

#: Outcomes are written at least this often while a batch is under way; seconds.
FLUSH_EVERY_S: Final = 0.25
#: How long a batch may go on after the operator asked to stop, and how long the target may then
#: be asked what got in; seconds.
STOP_GRACE_S: Final = 4.0
STOP_QUESTIONS_S: Final = 3.0
#: Renewed this long before it lapses or not at all: the host dies before the lease does.
_MARGIN_S: Final = 5.0

_STATUS_OF: Final = {
    VerdictKind.SUCCESS: Status.SUCCESS,
    VerdictKind.FAILURE: Status.FAILURE,
    VerdictKind.UNKNOWN: Status.UNKNOWN,
}


class LeaseLost(Exception):
    """The claim cannot be renewed in time; somebody else may get these files."""


class _CannotTell(Exception):
    """The target cannot be asked what became of a file."""


class Batch:
    """One claim, from its checks to its last outcome.

    Parameters
    ----------
    worker : `Worker`
        Who works on it.
    claim : `Claim`
        What it holds.
    """

    def __init__(self, worker: Worker, claim: Claim) -> None:
        self._worker, self._claim = worker, claim
        self._run, self._host = worker.run, worker.host
        self._by_path: dict[str, Claimed] = {}
        self._steps: list[Step] = []
        self._flushed = self._renewed = time.monotonic()
        self._stop_at: float | None = None

    def work(self) -> None:
        """Bring every file of the claim to an outcome, or give it back."""
        files = File.objects.in_bulk([claimed.file_id for claimed in self._claim.files])
        paths = {
            claimed: files[claimed.file_id].path_below(self._run.root)
            for claimed in self._claim.files
        }
        wanted = list(self._claim.files)
        if self._is_question(wanted[0]):
            # Lanes are not mixed: all of this claim are.
            wanted = self._ask(wanted, paths)
        self._begin(wanted, files, paths)
        try:
            verdicts = attempt(
                self._host,
                list(self._by_path),
                timeout_s=self._run.section.timeout,
                tick=self._tick,
            )
            with closing(verdicts):  # type: ignore[type-var]
                for verdict in verdicts:
                    self._conclude(verdict)
        except LeaseLost as error:
            logger.warning("claim %s: %s", self._claim.token, error)
        except (PluginConfigError, PluginUnavailable) as error:
            # The files it had not begun have been given back.
            logger.warning("plugin %s: %s", self._run.section.plugin.name, error)
        finally:
            self._flush()

    def _is_question(self, claimed: Claimed) -> bool:
        """Tell whether a file was claimed to find out what became of it."""
        return claimed.status == Status.UNKNOWN and (
            Status.UNKNOWN not in self._run.section.file_status
        )

    def _begin(
        self, wanted: list[Claimed], files: dict[int, File], paths: dict[Claimed, str]
    ) -> None:
        """Make the claimed files PENDING, and those that are objected to what they are."""
        steps = []
        for claimed in wanted:
            path = paths[claimed]
            objection = first_objection(self._worker.checks, files[claimed.file_id], path)
            if objection is None:
                self._by_path[path] = claimed
                step = self._step(claimed, Status.PENDING, claimed.status, claimed.attempts + 1)
            else:
                step = self._step(
                    claimed,
                    objection.status,
                    claimed.status,
                    claimed.attempts,
                    message=objection.message,
                    cause=cause_of(objection.message),
                )
            steps.append(step)
        began = {step.ingestion_id for step in self._apply(steps)}
        self._by_path = {
            path: claimed
            for path, claimed in self._by_path.items()
            if claimed.ingestion_id in began
        }

    def _ask(self, doubtful: list[Claimed], paths: dict[Claimed, str]) -> list[Claimed]:
        """Ask the target about files whose outcome nobody saw; give those to be tried again."""
        try:
            there = self._present([paths[claimed] for claimed in doubtful])
        except _CannotTell as error:
            self._apply([self._still_unknown(claimed, str(error)) for claimed in doubtful])
            return []
        steps, again = [], []
        retry = self._run.section.retry
        for claimed in doubtful:
            if paths[claimed] in there:
                note = "the outcome was unknown; the target has the file"
                steps.append(
                    self._step(claimed, Status.SUCCESS, Status.UNKNOWN, claimed.attempts, note=note)
                )
            elif next_attempt_on(retry, Status.UNKNOWN, claimed.attempts, transient=True):
                again.append(claimed)
            else:
                steps.append(self._still_unknown(claimed, "the target does not have the file"))
        self._apply(steps)
        return again

    def _present(self, paths: list[str]) -> set[str]:
        if not self._host.has_contains:
            raise _CannotTell(
                f"the plugin {self._run.section.plugin.name} cannot tell whether the file got in;"
                " look at the target, and rerun the file if it did not"
            )
        try:
            return self._host.contains(paths, timeout_s=self._run.section.timeout, tick=self._tick)
        except (HostDied, IngestRaised) as error:
            raise _CannotTell(f"the target could not be asked: {error}") from error

    def _still_unknown(self, claimed: Claimed, message: str) -> Step:
        return self._step(
            claimed,
            Status.UNKNOWN,
            Status.UNKNOWN,
            claimed.attempts,
            message=message,
            cause=cause_of(message),
        )

    def _conclude(self, verdict: Verdict) -> None:
        """Note a verdict; it is written with others, soon."""
        claimed = self._by_path[verdict.path]
        if verdict.kind is VerdictKind.GIVE_BACK:
            self._steps.append(
                self._step(
                    claimed,
                    claimed.status,
                    Status.PENDING,
                    claimed.attempts,
                    next_attempt_on=self._due_again(claimed),
                    note=verdict.message or "given back: the attempt never started",
                )
            )
        else:
            status, attempts = _STATUS_OF[verdict.kind], claimed.attempts + 1
            succeeded = status == Status.SUCCESS
            seconds = timedelta(seconds=verdict.duration_s)
            self._steps.append(
                self._step(
                    claimed,
                    status,
                    Status.PENDING,
                    attempts,
                    message="" if succeeded else verdict.message,
                    cause="" if succeeded else cause_of(verdict.message),
                    note=verdict.message if succeeded else "",
                    version=verdict.version[:255],
                    start_time=timezone.now() - seconds,
                    duration=verdict.duration_s,
                    next_attempt_on=next_attempt_on(
                        self._run.section.retry,
                        status,
                        attempts,
                        transient=verdict.transient
                        or (status == Status.UNKNOWN and self._host.has_contains),
                    ),
                )
            )
        self._flush_if_due()

    def _due_again(self, claimed: Claimed) -> datetime | None:
        """Files that were claimed because they were due are due still."""
        waits_by_itself = claimed.status in self._run.section.file_status
        return None if waits_by_itself else timezone.now()

    def _tick(self) -> None:
        """Between two looks at the plugin: sign of life, outcomes, lease, stop."""
        self._worker.beat()
        self._flush_if_due()
        self._renew_if_due()
        if not self._worker.stopping():
            return
        now = time.monotonic()
        self._stop_at = self._stop_at or now + STOP_GRACE_S
        if now >= self._stop_at:
            raise StopRequested("the operator stopped the ingester", time_left_s=STOP_QUESTIONS_S)

    def _renew_if_due(self) -> None:
        age = time.monotonic() - self._renewed
        if age < claims.RENEW_EVERY_S:
            return
        try:
            claims.renew(self._claim)
            self._renewed = time.monotonic()
        except (DatabaseError, InterfaceError) as error:
            if age > claims.LEASE_S - _MARGIN_S:
                raise LeaseLost(f"the database did not renew it: {error}") from error

    def _flush_if_due(self) -> None:
        if self._steps and time.monotonic() - self._flushed >= FLUSH_EVERY_S:
            try:
                self._flush()
            except (DatabaseError, InterfaceError) as error:
                # They are kept and written when the database answers again, or lapse.
                logger.warning("claim %s: outcomes not written yet: %s", self._claim.token, error)
                self._flushed = time.monotonic()

    def _flush(self) -> None:
        if self._steps:
            self._apply(self._steps)
            self._steps = []
        self._flushed = time.monotonic()

    def _apply(self, steps: list[Step]) -> list[Step]:
        done = transitions.apply(self._run.ingester_id, steps)
        if len(done) < len(steps):
            written = {step.ingestion_id for step in done}
            lost = [str(s.file_id) for s in steps if s.ingestion_id not in written]
            logger.warning(
                "claim %s: lease lost, outcome discarded of files %s",
                self._claim.token,
                ", ".join(lost),
            )
        return done

    def _step(
        self, claimed: Claimed, status: Status, was: Status, attempts: int, **fields: Any
    ) -> Step:
        return Step(
            ingestion_id=claimed.ingestion_id,
            file_id=claimed.file_id,
            was=was,
            held=self._claim.token,
            status=status,
            attempts=attempts,
            keep=status == Status.PENDING,
            worker=self._worker.name,
            **fields,
        )
