"""The finder's YAML file."""

from __future__ import annotations

from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from buffer.config import ComponentFile
from buffer.sections import Section, refused_key
from buffer.values import (
    Day,
    Days,
    ExcludePatterns,
    Expects,
    Flag,
    LocalPath,
    Seconds,
    SomeHours,
    null_as,
    refused,
)

LOG_DELAY_S = 60.0
FILE_DELAY_S = 2.0


class StandardAction(StrEnum):
    """What happens to a new file."""

    # Into storage, and gone from the buffer.
    MOVE = "Move"
    # It is in storage already; it is only recorded.
    NOOP = "Noop"


class AlternativeAction(StrEnum):
    """What happens to a duplicate."""

    # Deleted from the buffer, once its stored copy was read and found the same.
    DELETE = "Delete"
    # Set aside in finder.duplicates.
    MOVE = "Move"
    # Left where it is.
    NOOP = "Noop"


class SearchMethod(StrEnum):
    """How new files are found."""

    # Walking the directory.
    SCAN = "scan"
    # Reading the logs of rsync.
    PARSE_RSYNC_LOGS = "parse_rsync_logs"
    # Looking at what the kernel tells of, and walking the directory now and then.
    WATCH = "watch"


class Checksum(StrEnum):
    """Algorithm of checksums."""

    BLAKE3 = "blake3"
    # What the older system uses.
    BLAKE2B = "blake2b"
    SHA256 = "sha256"
    MD5 = "md5"


def _not_delete(value: object) -> object:
    if value == "Delete":
        raise refused("Delete would lose every new file: use Move, or Noop")
    return value


Standard = Annotated[
    StandardAction,
    Field(strict=False),
    BeforeValidator(_not_delete),
    null_as(lambda: StandardAction.NOOP),
    Expects("Move, Noop or null"),
]
Alternative = Annotated[
    AlternativeAction,
    Field(strict=False),
    null_as(lambda: AlternativeAction.NOOP),
    Expects("Delete, Move, Noop or null"),
]


class Actions(Section):
    """``finder.actions``: what happens to what is found."""

    standard: Standard = Field(
        default=StandardAction.NOOP,
        description="What happens to a new file. `Move`: into storage. `Noop`: it is in storage "
        "already and is only recorded. `Delete` is refused: it would lose every file.",
    )
    alternative: Alternative = Field(
        default=AlternativeAction.NOOP,
        description="What happens to a duplicate in the buffer. `Delete`: deleted, after its "
        "stored copy was read and found the same. `Move`: set aside in `finder.duplicates`. "
        "`Noop`: left there. A stored file is never touched.",
    )


class Search(Section):
    """``finder.search``: how files are found, and which are left out."""

    method: Annotated[
        SearchMethod, Field(strict=False), Expects("scan, parse_rsync_logs or watch")
    ] = Field(
        description="`scan`: walk the source. `watch`: be woken by the kernel (inotify), look at "
        "what it tells of, and walk the source only now and then. `parse_rsync_logs`: read the "
        "logs `rsync*.log` in the source's `YYYYMMDD` directories.",
    )
    exclude_list: ExcludePatterns = Field(
        default_factory=list,
        description="Paths below the source that match any of these are ignored. Python's "
        "regular expressions.",
    )
    delay: Seconds | None = Field(
        default=None,
        description="Quiet time before a file or a log counts as complete.",
        json_schema_extra={
            "shown_default": f"{LOG_DELAY_S:g} for parse_rsync_logs, {FILE_DELAY_S:g} for others"
        },
    )
    date: Day | None = Field(
        default=None,
        description="For parse_rsync_logs: the day whose logs are read; null: today (UTC).",
    )
    past_days: Days = Field(default=1, description="For parse_rsync_logs: days before `date`, too.")
    future_days: Days = Field(
        default=1, description="For parse_rsync_logs: days after `date`, too."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.delay is None:
            logs = self.method is SearchMethod.PARSE_RSYNC_LOGS
            self.delay = LOG_DELAY_S if logs else FILE_DELAY_S
        # Either end of the calendar is a mistyped year.
        day = self.date or date.today()
        for key, count in (("past_days", -self.past_days), ("future_days", self.future_days)):
            try:
                day + timedelta(days=count)
            except OverflowError:
                raise refused_key("reaches beyond the calendar: correct date", key) from None
        return self

    @property
    def delay_s(self) -> float:
        """Quiet time in seconds, the method's default filled in."""
        return FILE_DELAY_S if self.delay is None else self.delay


class FinderAlerts(Section):
    """``finder.alerts``: what somebody is to be told of."""

    silence_hours: SomeHours | None = Field(
        default=None, description="Nothing was stored for so many hours; null: never mind."
    )


class Finder(Section):
    """``finder``."""

    source: LocalPath = Field(
        description="The buffer, where files arrive; for parse_rsync_logs the directory with "
        "the logs."
    )
    storage: LocalPath = Field(description="Root of the storage area.")
    actions: Annotated[Actions, null_as(Actions)] = Field(default_factory=Actions)
    duplicates: LocalPath | None = Field(
        default=None,
        description="Where `actions.alternative: Move` sets duplicates aside, and where an "
        "operator's decision sets an arrival aside that collides with a stored file; neither in "
        "the source nor in the storage.",
    )
    search: Search = Field(description="How files are found; `method` is required.")
    alerts: Annotated[FinderAlerts, null_as(FinderAlerts)] = Field(default_factory=FinderAlerts)
    pause: Seconds = Field(default=1.0, description="Between cycles.")
    fsync: Flag = Field(
        default=True,
        description="Survive a power cut. false: for tests and scratch data only.",
    )
    checksum: Annotated[
        Checksum, Field(strict=False), Expects("blake3, blake2b, sha256 or md5")
    ] = Field(
        default=Checksum.BLAKE3,
        description="Algorithm for new files; the older system's is blake2b. Files recorded "
        "under another one keep theirs, and arrivals are compared under each that is in use.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        logs = self.search.method is SearchMethod.PARSE_RSYNC_LOGS
        if logs and self.actions.standard is StandardAction.MOVE:
            raise refused_key(
                "Move cannot be used with search.method parse_rsync_logs, whose files are in "
                "storage already: use Noop",
                "actions",
                "standard",
            )
        if self.actions.alternative is AlternativeAction.MOVE and self.duplicates is None:
            raise refused_key(
                "is required with actions.alternative Move: name the directory where duplicates "
                "are set aside",
                "duplicates",
            )
        return self


class FinderFile(ComponentFile):
    """The finder's whole file."""

    finder: Finder = Field(description="What is taken in, from where, and how.")
