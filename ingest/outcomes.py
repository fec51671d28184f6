"""What the end of an attempt makes of a file."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from ingest import breaker
from ingest.breaker import Outcome
from ingest.causes import cause_of
from ingest.claims import Claimed
from ingest.ledger import Ledger
from ingest.plugin_host import PluginHost
from ingest.retries import next_attempt_on
from ingest.statuses import DEFAULT_WANTED, Status
from ingest.targets import Run
from ingest.transitions import Step
from ingest.verdicts import Verdict, VerdictKind

_STATUS_OF: Final = {
    VerdictKind.SUCCESS: Status.SUCCESS,
    VerdictKind.FAILURE: Status.FAILURE,
    VerdictKind.UNKNOWN: Status.UNKNOWN,
}


class Outcomes:
    """Says for the files of one claim what their verdicts make of them.

    Parameters
    ----------
    run : `Run`
        How failures are tried again.
    host : `PluginHost`
        With the plugin that was at work.
    ledger : `Ledger`
        Of the claim.
    probing : `bool`
        Whether this is to show whether the target answers again.
    """

    def __init__(self, run: Run, host: PluginHost, ledger: Ledger, *, probing: bool) -> None:
        self._run, self._host, self._ledger, self._probing = run, host, ledger, probing

    def of(self, claimed: Claimed, verdict: Verdict) -> Outcome:
        """Say what becomes of a file, and what instead while the ingester pauses."""
        if verdict.kind is VerdictKind.GIVE_BACK:
            note = verdict.message or "given back: the attempt never started"
            return Outcome(self._back(claimed, note=note))
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
        return Outcome(
            step,
            # Whoever refuses a file for what it is answers, too.
            answer=status != Status.UNKNOWN and not transient,
            instead=self._back(claimed, message=verdict.message, note=note, **seen)
            if transient
            else None,
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
