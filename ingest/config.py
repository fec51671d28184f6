"""The YAML file of the ingester."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from buffer.config import ComponentFile
from buffer.finder_paths import why_not_directory
from buffer.names import escape
from buffer.sections import Section, refused_key
from buffer.values import (
    ExcludePatterns,
    Expects,
    Flag,
    LocalPath,
    Patterns,
    Positive,
    Seconds,
    SomeHours,
    SomeMinutes,
    SomeSeconds,
    at_most,
    null_as,
    refused,
)
from ingest.plugin_config import normalise
from ingest.plugins import BUILTIN, PluginConfigError, resolve
from ingest.statuses import CLAIMABLE, DEFAULT_WANTED, Status

#: Outcomes that an automatic retry may follow.
RETRYABLE: tuple[Status, ...] = (Status.FAILURE, Status.UNKNOWN)


def _one_or_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _claimable(value: object) -> object:
    if value == Status.SUCCESS:
        raise refused("SUCCESS is refused: these files are ingested; insert RERUN for some of them")
    if value == Status.PENDING:
        raise refused("PENDING is refused: these files are being worked on")
    return value


def _among(allowed: Collection[Status]) -> BeforeValidator:
    def check(value: object) -> object:
        if not isinstance(value, str) or value not in list(allowed):
            raise ValueError("not one of them")
        return Status(value)

    return BeforeValidator(check)


def _words(statuses: Collection[Status]) -> str:
    names = [status.value for status in statuses]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _once(statuses: list[Status]) -> list[Status]:
    return list(dict.fromkeys(statuses))


ClaimableStatus = Annotated[
    Status, _among(CLAIMABLE), BeforeValidator(_claimable), Expects(_words(CLAIMABLE))
]
RetryableStatus = Annotated[Status, _among(RETRYABLE), Expects(_words(RETRYABLE))]


class Retry(Section):
    """``ingester.retry``: trying again by itself after transient failures."""

    max_attempts: Positive = Field(
        default=5, description="Attempts of one file, the first included."
    )
    backoff: Seconds = Field(
        default=30.0, description="Before the second attempt; doubles with each."
    )
    max_backoff: Seconds = Field(default=3600.0, description="Longest time between two attempts.")
    statuses: Annotated[
        list[RetryableStatus],
        Field(min_length=1),
        BeforeValidator(_one_or_list),
        null_as(lambda: list(RETRYABLE)),
        Expects("FAILURE, UNKNOWN or a list of both"),
    ] = Field(
        default_factory=lambda: list(RETRYABLE),
        description="Outcomes that are tried again. UNKNOWN is only if the plugin can tell that "
        "the file did not get in.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        self.statuses = _once(self.statuses)
        if self.max_backoff < self.backoff:
            raise refused_key("must not be less than backoff", "max_backoff")
        return self


class IngesterAlerts(Section):
    """``ingester.alerts``: what somebody is to be told of."""

    silence_hours: SomeHours | None = Field(
        default=None, description="No file was opened or tried for so many hours; null: never mind."
    )
    oldest_waiting_minutes: SomeMinutes | None = Field(
        default=None,
        description="The oldest file has been waiting for so many minutes; null: never mind.",
    )
    failure_percent: Annotated[
        float | None,
        Field(gt=0, le=100, allow_inf_nan=False),
        Expects("a number of percent, more than 0, at most 100"),
    ] = Field(
        default=None,
        description="So many of the files that were tried of late are FAILURE, UNKNOWN or INVALID; "
        "null: never mind.",
    )
    failure_window_minutes: Annotated[SomeMinutes, at_most(1440)] = Field(
        default=60.0, description="For failure_percent: how late; counted in steps of 5 minutes."
    )
    failure_least: Positive = Field(
        default=10, description="For failure_percent: of fewer outcomes than this nothing is said."
    )


class PluginChoice(Section):
    """``ingester.plugin``: the way into the data management system."""

    name: Annotated[
        str,
        Field(pattern=r"\A[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\z"),
        Expects(f"{', '.join(BUILTIN)} or the dotted path of a class"),
    ] = Field(
        description=f"{', '.join(BUILTIN)}, or the dotted path of a class that the setting "
        "INGEST_PLUGINS allows"
    )
    config: Annotated[Any, Expects("a mapping (keys and values), or null")] = Field(
        default_factory=dict,
        validate_default=True,
        description="The plugin's own settings, below. NullIngest ignores them; a plugin of your "
        "own gets them as they are.",
    )

    @field_validator("name")
    @classmethod
    def _nearest(cls, name: str) -> str:
        if "." in name or name in BUILTIN:
            return name
        close = difflib.get_close_matches(name, BUILTIN, n=1, cutoff=0.6)
        hint = f': did you mean "{close[0]}"?' if close else ""
        raise refused(
            f'there is no plugin "{name}"{hint} (known: {", ".join(BUILTIN)}, '
            "or the dotted path of a class)"
        )

    @field_validator("config")
    @classmethod
    def _normalised(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.data.get("name")
        # Without a usable name nobody can tell what the settings should be.
        return value if name is None else normalise(name, value)


class IngesterSection(Section):
    """``ingester``."""

    plugin: PluginChoice = Field(description="`name` says which plugin ingests the files")
    storage: LocalPath | None = Field(
        default=None,
        description="Root of the storage as seen from here, if it is another mount than the one "
        "recorded.",
    )
    include_list: Patterns = Field(
        default_factory=list,
        description="Only paths that match any of these are ingested; null: all.",
    )
    exclude_list: ExcludePatterns = Field(
        default_factory=list, description="Paths that match any of these are not ingested."
    )
    file_status: Annotated[
        list[ClaimableStatus],
        Field(min_length=1),
        BeforeValidator(_one_or_list),
        null_as(lambda: list(DEFAULT_WANTED)),
        Expects("a status or a list of statuses"),
    ] = Field(
        default_factory=lambda: list(DEFAULT_WANTED),
        description="Which files to take: one or a list of UNTRIED, RERUN, FAILURE, UNKNOWN, "
        "IGNORED, INVALID, BACKFILL.",
    )
    batch_size: Annotated[int, Field(ge=1), at_most(10_000), Expects("an integer of 1 or more")] = (
        Field(default=10, description="Files per call of the plugin.")
    )
    num_threads: Annotated[int, Field(ge=1), at_most(256), Expects("an integer of 1 or more")] = (
        Field(default=1, description="Workers.")
    )
    daemon: Flag = Field(default=True, description="false: stop when nothing is left.")
    pause: Seconds = Field(
        default=1.0,
        description="Accepted, of no effect: an ingester with nothing to do is woken at once.",
    )
    timeout: SomeSeconds = Field(
        default=600.0, description="Deadline of an attempt; of a batch: for each of its files."
    )
    alerts: Annotated[IngesterAlerts, null_as(IngesterAlerts)] = Field(
        default_factory=IngesterAlerts
    )
    retry: Retry | None = Field(
        default=None, description="Try again by itself after transient failures; null: never."
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        self.file_status = _once(self.file_status)
        return self


class IngesterFile(ComponentFile):
    """The ingester's whole file."""

    ingester: IngesterSection = Field(description="Which plugin ingests which files, and how.")

    @property
    def name(self) -> str:
        """The ingester's name: the YAML's ``tablenames.event.table``, else the plugin's."""
        return self.database.event_table or self.ingester.plugin.name.rpartition(".")[2]

    @model_validator(mode="after")
    def _own_name(self) -> Self:
        if self.name.lower() == self.database.file_table.lower():
            raise refused_key(
                "is the name of the ingester too: choose another",
                *("database", "tablenames", "file", "table"),
            )
        return self


def check_ingester(config: IngesterFile, allowed: Collection[str]) -> list[str]:
    """Check an ingester's file against the file system and the settings; nothing is changed.

    Parameters
    ----------
    config : `IngesterFile`
        The file.
    allowed : `~collections.abc.Collection` [`str`]
        Dotted paths of third-party plugins that may be used (``settings.INGEST_PLUGINS``).

    Returns
    -------
    problems : `list` [`str`]
        Lines that begin with the key; empty if all is well.
    """
    ingester = config.ingester
    problems: list[str] = []
    try:
        resolve(ingester.plugin.name, allowed)
    except PluginConfigError as error:
        problems.append(str(error))
    if ingester.storage is not None:
        problems += why_not_directory("ingester.storage", ingester.storage)
    root = ingester.plugin.config.get("butler", {})
    if isinstance(root, dict) and ingester.plugin.name in BUILTIN:
        problems += _check_root(ingester, str(root.get("root", "")))
    return problems


def _check_root(ingester: IngesterSection, root: str) -> list[str]:
    """Check the root of a repository that is a local directory."""
    if not os.path.isabs(root):
        return []
    key = "ingester.plugin.config.butler.root"
    if not os.path.exists(root):
        if ingester.plugin.config.get("ingest", {}).get("create"):
            return []
        return [f"{key}: there is no {escape(root)}: make the repository, or correct the path"]
    if ingester.storage is not None and os.path.samefile(root, ingester.storage):
        return [f"{key}: is the storage area: a repository needs a directory of its own"]
    if (
        ingester.plugin.name == "Gen3Ingest"
        and os.path.isdir(root)
        and not os.path.exists(os.path.join(root, "butler.yaml"))
    ):
        return [
            f"{key}: {escape(root)} is not a Butler repository (it has no butler.yaml): "
            "make one with `butler create`, or correct the path"
        ]
    return []
