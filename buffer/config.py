"""Reading the YAML file of a component: what all have in common, loading and checking.

Defaults live in the models of `buffer.sections`, `buffer.finder_config`, `ingest.config`,
`ingest.backfill_config` and `ingest.plugin_config`, and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, TypeVar

from pydantic import Field, PrivateAttr, ValidationError

from buffer.config_errors import problems_of
from buffer.problems import ConfigError, Problem
from buffer.sections import Database, Logging, Section
from buffer.values import null_as
from buffer.yamlfile import Document, KeyPath, read

__all__ = ["ComponentFile", "ConfigError", "load", "place", "validate"]


class ComponentFile(Section):
    """A component's whole file: ``database``, ``logging`` and a section of its own."""

    database: Annotated[Database, null_as(Database)] = Field(default_factory=Database)
    logging: Annotated[Logging, null_as(Logging)] = Field(default_factory=Logging)

    _document: Document | None = PrivateAttr(None)

    @property
    def path(self) -> str:
        """The file that this was loaded from."""
        return self._document.path if self._document else ""


Model = TypeVar("Model", bound=ComponentFile)


def load(path: str | os.PathLike[str], model: type[Model]) -> Model:
    """Read and check a component's file; nothing but the file is touched.

    Parameters
    ----------
    path : `str` or `os.PathLike`
        The YAML file.
    model : `type` [`ComponentFile`]
        What it must be: `buffer.finder_config.FinderFile`, `ingest.config.IngesterFile` or
        `ingest.backfill_config.BackfillFile`.

    Returns
    -------
    config : ``model``
        The file's content with defaults filled in.

    Raises
    ------
    ConfigError
        With every problem of the file, in the order of lines.
    """
    return validate(read(path), model)


def validate(document: Document, model: type[Model]) -> Model:
    """Check what was read already; see `load`."""
    problems = list(document.problems)
    config = None
    try:
        config = model.model_validate(document.data)
    except ValidationError as error:
        for problem in problems_of(error, document, model):
            # What could not be read is null now; the reason has been reported.
            if problem.key not in document.unread:
                problems.append(problem)
    if problems or config is None:
        raise ConfigError(shown.show(document.path) for shown in sorted(set(problems)))
    config._document = document
    return config


def place(config: ComponentFile, problems: Iterable[str]) -> list[str]:
    """Add file and line to problems that begin with a key (``finder.source: ...``)."""
    document = config._document
    placed = []
    for text in problems:
        key, colon, rest = text.partition(": ")
        path: KeyPath = tuple(key.split("."))
        known = bool(colon) and path[0] in type(config).model_fields
        line = document.line(path) if document and known else 0
        problem = Problem(line, key, rest) if known else Problem(0, "", text)
        placed.append(problem.show(config.path))
    return placed
