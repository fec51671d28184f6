"""Settings of the built-in plugins, as they stand under ``ingester.plugin.config``.

A plugin is given the normalised mapping: every key is there, with its default if it was not set.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from buffer.sections import Section, refused_key
from buffer.values import Expects, Flag, Name, Pattern, null_as, refused

logger = logging.getLogger(__name__)

FILE_FILTER = r"\.fit[s]?\b"
MOVE_REFUSED = "move would take the file out of our storage, where it must stay: use {instead}"


def _location(value: object) -> object:
    """Make a local path absolute; addresses and names of repositories are left as they are."""
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError("not a location")
    if value.startswith("~"):
        raise refused("~ is not expanded: write the whole path")
    if "://" in value or ("/" not in value and not os.path.exists(value)):
        return value
    return os.path.abspath(value)


def _file(value: object) -> object:
    """Make a path absolute; addresses are left as they are."""
    made = _location(value)
    return os.path.abspath(made) if isinstance(made, str) and "://" not in made else made


FileName = Annotated[str, BeforeValidator(_file), Expects("the path of a file")]
Location = Annotated[
    str, BeforeValidator(_location), Expects("the path or address of a Butler repository")
]
TaskName = Annotated[
    str,
    Field(pattern=r"\A[A-Za-z_]\w*(\.[A-Za-z_]\w*)+\z"),
    Expects("the dotted name of a task's class"),
]
Mapped = Annotated[dict[str, Any], Expects("a mapping (keys and values), or null")]
Names = Annotated[
    list[Name],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Expects("a name, a list of names, or null"),
]


class PluginSection(Section):
    """The settings of a plugin that reads or writes a Butler repository."""

    root: Location | None = Field(default=None, description="The same as `butler.root`.")

    def normalised(self) -> dict[str, Any]:
        """Give the mapping that the plugin gets."""
        return self.model_dump(mode="json", exclude={"root"})


def _lift_root(data: Any) -> Any:
    """Make ``root`` the ``butler.root`` that it means."""
    if not isinstance(data, Mapping) or data.get("root") is None:
        return data
    butler = data.get("butler")
    butler = {} if butler is None else butler
    if not isinstance(butler, Mapping):
        return data
    short, full = data["root"], butler.get("root")
    if full is not None and full != short:
        raise refused_key("differs from butler.root: remove one of them", "root")
    others = {key: value for key, value in data.items() if key != "root"}
    return {**others, "butler": {**butler, "root": short}}


class Gen3Transfer(StrEnum):
    """How the Butler gets at a file; all leave the file where it is."""

    DIRECT = "direct"
    COPY = "copy"
    SYMLINK = "symlink"
    RELSYMLINK = "relsymlink"
    HARDLINK = "hardlink"
    LINK = "link"
    AUTO = "auto"


class Gen2Mode(StrEnum):
    """How the legacy task gets at a file; all leave the file where it is."""

    LINK = "link"
    COPY = "copy"
    SKIP = "skip"


def _refuse_move(instead: str) -> BeforeValidator:
    def check(value: object) -> object:
        if value == "move":
            raise refused(MOVE_REFUSED.format(instead=instead))
        return value

    return BeforeValidator(check)


class Gen3Butler(Section):
    """``butler`` of Gen3Ingest."""

    root: Location = Field(description="the Butler repository")
    collection: Name | None = Field(
        default=None, description="Run to ingest into; null: the instrument's default."
    )


class Gen3Task(Section):
    """``ingest`` of Gen3Ingest: what the ingest task is given."""

    config: Mapped | None = Field(default=None, description="Settings of the task, by field.")
    config_file: FileName | None = Field(
        default=None, description="File with settings of the task."
    )
    file_filter: Pattern = Field(default=FILE_FILTER, description="Names of raw files.")
    group_files: Flag = Field(default=True, description="Group files by exposure.")
    skip_existing_exposures: Flag = Field(
        default=False, description="Pass over exposures that are there already."
    )
    update_exposure_records: Flag = Field(
        default=False, description="Bring records of exposures up to date."
    )
    track_file_attrs: Flag = Field(
        default=True, description="Record sizes of files in the repository."
    )
    task: TaskName = Field(default="lsst.obs.base.RawIngestTask", description="Class of the task.")
    transfer: Annotated[
        Gen3Transfer,
        Field(strict=False),
        _refuse_move("direct"),
        Expects(", ".join(list(Gen3Transfer)[:-1]) + " or auto"),
    ] = Field(
        default=Gen3Transfer.DIRECT,
        description="How the repository gets at a file; `move` is refused: the file is ours.",
    )
    pool: Any = Field(default=None, description="Accepted and ignored; see `num_threads`.")
    processes: Any = Field(default=None, description="Accepted and ignored; see `num_threads`.")


class Gen3Visits(Section):
    """``visits`` of Gen3Ingest: defining visits from what was ingested."""

    instrument: Name = Field(description="name of the instrument, or the dotted name of its class")
    config_file: FileName | None = Field(
        default=None, description="File with settings of the task."
    )
    collections: Names | None = Field(
        default=None, description="Collections to look for calibrations in; a name or a list."
    )
    update_records: Flag = Field(default=False, description="Bring records of visits up to date.")
    task: TaskName = Field(
        default="lsst.obs.base.DefineVisitsTask", description="Class of the task."
    )
    pool: Any = Field(default=None, description="Accepted and ignored; see `num_threads`.")
    processes: Any = Field(default=None, description="Accepted and ignored; see `num_threads`.")


class Gen3Config(PluginSection):
    """Settings of Gen3Ingest."""

    butler: Gen3Butler = Field(description="`root` is the Butler repository")
    ingest: Annotated[Gen3Task, null_as(Gen3Task)] = Field(default_factory=Gen3Task)
    visits: Gen3Visits | None = Field(default=None, description="null: no visits are defined.")

    _lift = model_validator(mode="before")(_lift_root)

    @model_validator(mode="after")
    def _note_ignored(self) -> Self:
        for name, section in (("ingest", self.ingest), ("visits", self.visits)):
            for key in ("pool", "processes"):
                if section is None or getattr(section, key) in (None, 1):
                    continue
                logger.warning(
                    "ingester.plugin.config.%s.%s is ignored: set ingester.num_threads instead",
                    name,
                    key,
                )
        return self

    def normalised(self) -> dict[str, Any]:
        ignored = {"pool", "processes"}
        return self.model_dump(
            mode="json", exclude={"root": True, "ingest": ignored, "visits": ignored}
        )


class Gen2Butler(Section):
    """``butler`` of Gen2Ingest."""

    root: Location = Field(description="the Butler repository")


class Gen2Task(Section):
    """``ingest`` of Gen2Ingest: what the legacy task is given."""

    create: Flag = Field(default=False, description="Make the registry if it is not there.")
    dryrun: Flag = Field(default=False, description="Only pretend.")
    ignoreIngested: Flag = Field(
        default=False, description="Pass over files that are registered already."
    )
    mode: Annotated[
        Gen2Mode, Field(strict=False), _refuse_move("link"), Expects("link, copy or skip")
    ] = Field(
        default=Gen2Mode.LINK,
        description="How the repository gets at a file; `move` is refused: the file is ours.",
    )
    task: TaskName = Field(
        default="lsst.pipe.tasks.ingest.IngestTask", description="Class of the legacy task."
    )


class Gen2Config(PluginSection):
    """Settings of Gen2Ingest."""

    butler: Gen2Butler = Field(description="`root` is the Butler repository")
    ingest: Annotated[Gen2Task, null_as(Gen2Task)] = Field(default_factory=Gen2Task)

    _lift = model_validator(mode="before")(_lift_root)


MODELS: dict[str, type[PluginSection]] = {"Gen3Ingest": Gen3Config, "Gen2Ingest": Gen2Config}


def normalise(plugin: str, config: Any) -> dict[str, Any]:
    """Check ``plugin.config`` and fill in its defaults.

    Parameters
    ----------
    plugin : `str`
        ``plugin.name``: a built-in name or a dotted path.
    config : `object`
        What the file says under ``plugin.config``.

    Returns
    -------
    config : `dict`
        The mapping for the plugin's constructor. NullIngest's is empty; a third-party plugin's
        is what the file says.

    Raises
    ------
    pydantic_core.PydanticCustomError
        Of the type ``nested``, with pydantic's errors of the mapping.
    """
    name = plugin.rpartition(".")[2] if plugin.startswith("ingest.plugins.") else plugin
    if name == "NullIngest":
        return {}
    mapping = {} if config is None else config
    model = MODELS.get(name)
    if model is None:
        if not isinstance(mapping, dict):
            text = "a mapping (keys and values), or null"
            raise PydanticCustomError("expected", "{text}", {"text": text})
        return mapping
    try:
        return model.model_validate(mapping).normalised()
    except ValidationError as error:
        context = {"errors": error.errors(include_url=False), "model": model}
        raise PydanticCustomError("nested", "wrong settings of the plugin", context) from None
