"""The YAML file of backfill."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from buffer.config import ComponentFile
from buffer.finder_paths import is_inside, why_not_directory
from buffer.names import escape
from buffer.sections import Section, refused_key
from buffer.values import ExcludePatterns, Expects, LocalPath, null_as, refused


def _below_storage(source: str) -> str:
    if not source or "\0" in source:
        raise ValueError("not a path")
    if source.startswith("/"):
        raise refused("is absolute: give it relative to backfill.storage")
    if source.startswith("~"):
        raise refused("~ is not expanded: give it relative to backfill.storage")
    if ".." in source.split("/"):
        raise refused("leads out of backfill.storage: remove ..")
    return source


class BackfillSearch(Section):
    """``backfill.search``."""

    exclude_list: ExcludePatterns = Field(
        default_factory=list, description="Paths that match any of these are left out."
    )


class BackfillSection(Section):
    """``backfill``."""

    storage: LocalPath = Field(description="Root of the storage area.")
    sources: Annotated[
        list[
            Annotated[
                str,
                AfterValidator(_below_storage),
                Expects("a path or glob pattern below backfill.storage (put it in quotes)"),
            ]
        ],
        Field(min_length=1),
        Expects("a list of paths or glob patterns, at least one"),
    ] = Field(
        description="Files, directories or glob patterns below the storage. Quotes around dates "
        "are not needed."
    )
    search: Annotated[BackfillSearch, null_as(BackfillSearch)] = Field(
        default_factory=BackfillSearch
    )


class BackfillFile(ComponentFile):
    """The whole file of backfill."""

    backfill: BackfillSection = Field(description="What was in storage before this system.")

    @property
    def name(self) -> str:
        """The name of the ingester whose history is filled in."""
        return self.database.event_table or ""

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if self.database.event_table is None:
            raise refused_key(
                "is required for backfill: the name of the ingester whose history is filled in",
                *("database", "tablenames", "event", "table"),
            )
        return self


def check_backfill(config: BackfillFile) -> list[str]:
    """Check a backfill's file against the file system; nothing is changed.

    Returns
    -------
    problems : `list` [`str`]
        Lines that begin with the key; empty if all is well.
    """
    storage = config.backfill.storage
    problems = why_not_directory("backfill.storage", storage)
    if problems:
        return problems
    for at, source in enumerate(config.backfill.sources):
        path = storage / source
        if path.exists() and not is_inside(path, storage):
            problems.append(
                f"backfill.sources[{at}]: {escape(source)} leads out of backfill.storage "
                "through a symbolic link"
            )
    return problems
