"""Asking the target what became of files whose outcome nobody saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ingest import breaker, claims
from ingest.causes import cause_of
from ingest.claims import Claim, Claimed
from ingest.ledger import Ledger
from ingest.plugin_host import HostDied, IngestRaised, PluginHost
from ingest.retries import next_attempt_on
from ingest.statuses import Status
from ingest.targets import Run
from ingest.transitions import Step


class _CannotTell(Exception):
    """The target cannot be asked what became of a file."""


class _DoesNotTell(_CannotTell):
    """It was asked, and did not answer."""


class Question:
    """Asks about the files of one claim, all of which are UNKNOWN.

    Parameters
    ----------
    claim : `Claim`
        What is held.
    run : `Run`
        How to work on it.
    host : `PluginHost`
        With the plugin loaded.
    ledger : `Ledger`
        Where it is noted what became of them.
    tick : callable
        Called while the target is waited for.
    probing : `bool`
        Whether this is to show whether the target answers again.

    Attributes
    ----------
    unanswered : `bool`
        The target was asked, and did not answer.
    """

    def __init__(
        self,
        claim: Claim,
        run: Run,
        host: PluginHost,
        ledger: Ledger,
        *,
        tick: Callable[[], None],
        probing: bool,
    ) -> None:
        self._claim, self._run, self._host, self._ledger = claim, run, host, ledger
        self._tick, self._probing = tick, probing
        self.unanswered = False

    def ask(self, doubtful: Mapping[str, Claimed]) -> list[Claimed]:
        """Ask about files, and conclude what the answer says.

        Parameters
        ----------
        doubtful : `~collections.abc.Mapping` [`str`, `Claimed`]
            The files by their paths on this host.

        Returns
        -------
        again : `list` [`Claimed`]
            Those that are to be tried again.
        """
        try:
            there = self._present(list(doubtful))
        except _CannotTell as error:
            self.unanswered = isinstance(error, _DoesNotTell)
            if self._probing and self.unanswered:
                # Asked again when it answers.
                claims.drop(self._claim, [claimed.ingestion_id for claimed in doubtful.values()])
            else:
                steps = [self._still_unknown(one, str(error)) for one in doubtful.values()]
                self._ledger.apply(steps)
            return []
        breaker.answered(self._run.ingester_id)
        steps, again = [], []
        retry = self._run.section.retry
        for path, claimed in doubtful.items():
            if path in there:
                note = "the outcome was unknown; the target has the file"
                steps.append(
                    self._ledger.step(
                        claimed, Status.SUCCESS, Status.UNKNOWN, claimed.attempts, note=note
                    )
                )
            elif next_attempt_on(retry, Status.UNKNOWN, claimed.attempts, transient=True):
                again.append(claimed)
            else:
                steps.append(self._still_unknown(claimed, "the target does not have the file"))
        self._ledger.apply(steps)
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
            raise _DoesNotTell(f"the target could not be asked: {error}") from error

    def _still_unknown(self, claimed: Claimed, message: str) -> Step:
        return self._ledger.step(
            claimed,
            Status.UNKNOWN,
            Status.UNKNOWN,
            claimed.attempts,
            message=message,
            cause=cause_of(message),
        )
