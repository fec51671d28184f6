"""Asking the target what became of files whose outcome nobody saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Max
from django.utils import timezone

from ingest import breaker, claims
from ingest.asking import ask
from ingest.attempt import MAX_FAILED_QUESTIONS
from ingest.causes import cause_of
from ingest.claims import Claim, Claimed
from ingest.ledger import Ledger
from ingest.models import FileEvent
from ingest.plugin_host import PluginHost
from ingest.retries import next_attempt_on
from ingest.statuses import Status
from ingest.targets import Run
from ingest.transitions import Step

#: A question that failed is asked again: after this time, which doubles with each time that the
#: outcome of the file was not to be had, up to the longest; seconds.
AGAIN_S: Final = 60.0
LONGEST_PAUSE_S: Final = 6 * 3600.0
#: So often in a row it may be unknown what became of a file; then a person has to look.
MOST_OFTEN: Final = 15


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
        if not self._host.has_contains:
            message = (
                f"the plugin {self._run.section.plugin.name} cannot tell whether the file got in;"
                " look at the target, and rerun the file if it did not"
            )
            self._ledger.apply([self._still_unknown(one, message) for one in doubtful.values()])
            return []
        answers = ask(
            self._host,
            list(doubtful),
            timeout_s=self._run.section.timeout,
            tick=self._tick,
            most_failures=MAX_FAILED_QUESTIONS,
        )
        self.unanswered = all(there is None for there in answers.there.values())
        if self.unanswered and self._probing:
            # Asked again when it answers.
            claims.drop(self._claim, [claimed.ingestion_id for claimed in doubtful.values()])
            return []
        if not self.unanswered:
            breaker.answered(self._run.ingester_id)
        unknown = [one for path, one in doubtful.items() if answers.there[path] is None]
        due = self._ask_again_on(unknown)
        steps, again = [], []
        retry = self._run.section.retry
        for path, claimed in doubtful.items():
            there = answers.there[path]
            if there is None:
                message = f"the target could not be asked: {answers.failures[-1]}"
                steps.append(
                    self._still_unknown(claimed, message, next_attempt_on=due[claimed.file_id])
                )
            elif there:
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

    def _ask_again_on(self, files: Sequence[Claimed]) -> dict[int, datetime | None]:
        """Say by file ids when to ask again; None: not before a person has looked."""
        ids = [claimed.file_id for claimed in files]
        events = FileEvent.objects.filter(file__in=ids, ingester=self._run.ingester_id)
        # Before that, it was another attempt that somebody had asked for.
        others = events.exclude(status__in=(Status.UNKNOWN, Status.PENDING)).order_by()
        since = dict(others.values_list("file").annotate(last=Max("id")))
        often_of: Counter[int] = Counter(
            file_id
            for file_id, event_id in events.filter(status=Status.UNKNOWN).values_list("file", "id")
            if event_id > since.get(file_id, 0)
        )
        due: dict[int, datetime | None] = {}
        for claimed in files:
            often = often_of[claimed.file_id]
            pause = min(AGAIN_S * 2.0 ** max(0, often - 1), LONGEST_PAUSE_S)
            later = timezone.now() + timedelta(seconds=pause)
            due[claimed.file_id] = later if often < MOST_OFTEN else None
        return due

    def _still_unknown(self, claimed: Claimed, message: str, **fields: Any) -> Step:
        return self._ledger.step(
            claimed,
            Status.UNKNOWN,
            Status.UNKNOWN,
            claimed.attempts,
            message=message,
            cause=cause_of(message),
            **fields,
        )
