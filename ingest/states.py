"""The state of each thing as operators are shown it: values, with nothing left to look up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from buffer.counting import total
from ingest.pauses import Pause
from ingest.statuses import DEFAULT_WANTED


@dataclass(frozen=True, slots=True)
class IngesterState:
    """One ingester's files.

    Parameters
    ----------
    id, name, storage, plugin : `int`, `str`
        Which one. `plugin` is empty until it was first started.
    counts : `dict` [`str`, `int`]
        Files by status, those with none left out. An overview at a glance has only what waits, and
        guesses at large numbers.
    unopened : `int`
        Stored files that it has not opened yet; they wait too.
    held : `int`
        Files that workers hold now.
    retries : `int`
        Files that will be tried again, or asked about, by themselves.
    oldest_waiting : `~datetime.datetime` or `None`
        Since when the oldest file waits for its attempt.
    live : `bool`
        Whether a process works for it.
    messages : `list` [`str`]
        What its processes wait for.
    pause : `Pause` or `None`
        Why it tries no file now, if its target does not answer.
    held_back : `str`
        By whom, since when and why it is paused, if a person has paused it.
    failed : `int`
        Files that may need a person: those with causes that are ignored do not.
    ignored : `int`
        Files with causes that are ignored. An overview at a glance leaves both out.
    """

    id: int
    name: str
    storage: str
    plugin: str
    counts: dict[str, int]
    unopened: int
    held: int
    retries: int
    oldest_waiting: datetime | None
    live: bool
    messages: list[str]
    pause: Pause | None = None
    held_back: str = ""
    failed: int = 0
    ignored: int = 0

    @property
    def waiting(self) -> int:
        """Files that wait for an attempt."""
        return total([self.unopened, *(self.counts.get(status, 0) for status in DEFAULT_WANTED)])


@dataclass(frozen=True, slots=True)
class ComponentState:
    """One process that is at work, or was until it fell silent without having stopped."""

    id: int
    kind: str
    subject: str
    host: str
    pid: int
    live: bool
    seen_on: datetime
    started_on: datetime
    message: str
    counters: dict[str, int]
    free_bytes: dict[str, int | None] = field(default_factory=dict)
    total_bytes: dict[str, int | None] = field(default_factory=dict)
    # Copies of lost arrivals, below the storage area.
    kept: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RefusalState:
    """Standing refusals of one reason."""

    reason: str
    count: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class SuspectState:
    """Stored files that audits found wrong in one way."""

    kind: str
    count: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class OperatorPauseState:
    """A finder or an ingester that a person has paused."""

    kind: str
    subject: str
    host: str
    since: datetime
    by: str
    note: str
    text: str


@dataclass(frozen=True, slots=True)
class AlertState:
    """An alert that stands."""

    id: int
    condition: str
    kind: str
    subject: str
    host: str
    detail: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of everything.

    Parameters
    ----------
    at : `~datetime.datetime`
        When this was.
    ingesters, components, refusals : `list`
        By name; live and silent ones; by reason.
    intents : `int`
        Files that are being taken in.
    suspects : `list`
        Stored files that audits found wrong, by the kind of finding.
    operator_pauses : `list`
        What persons have paused.
    alerts : `list`
        What a person wanted to be told of, and is the case.
    """

    at: datetime
    ingesters: list[IngesterState] = field(default_factory=list)
    components: list[ComponentState] = field(default_factory=list)
    refusals: list[RefusalState] = field(default_factory=list)
    intents: int = 0
    suspects: list[SuspectState] = field(default_factory=list)
    operator_pauses: list[OperatorPauseState] = field(default_factory=list)
    alerts: list[AlertState] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Give it as plain types; times stay `~datetime.datetime`."""
        plain = asdict(self)
        for as_plain, state in zip(plain["ingesters"], self.ingesters, strict=True):
            as_plain["waiting"] = state.waiting
        return plain
