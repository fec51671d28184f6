"""Sections that the YAML files of all components have: ``database`` and ``logging``."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_core import PydanticCustomError

from buffer import database
from buffer.logsetup import DEFAULT_FORMAT
from buffer.values import (
    Count,
    Expects,
    Flag,
    LocalPath,
    Name,
    Positive,
    TableName,
    null_as,
    refused,
)

DEFAULT_STORAGE_NAME = "files"


class Section(BaseModel):
    """A mapping of a configuration file; unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
        arbitrary_types_allowed=False,
    )


def refused_key(text: str, *key: str) -> PydanticCustomError:
    """Make an error about one key for a check that looks at its whole section."""
    return PydanticCustomError("refused", "{text}", {"text": text, "key": key})


def _parsable(engine: SecretStr) -> SecretStr:
    try:
        parsed = database.parse(engine.get_secret_value())
    except database.DatabaseError as error:
        raise refused(str(error)) from None
    if parsed.name == ":memory:":
        raise refused("a database in memory cannot be shared with workers: give a path")
    return engine


def _not_ours(name: str) -> str:
    """Refuse the name of a table of the program's own, which a view cannot have."""
    from django.apps import apps

    if name.lower().startswith("sqlite_"):
        raise refused("names that begin with sqlite_ belong to SQLite: choose another")
    if apps.ready:
        tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
        if name.lower() in tables | {"django_migrations"}:
            raise refused("is a table of this program itself: choose another name")
    return name


ViewName = Annotated[TableName, AfterValidator(_not_ours)]


def _secret(value: object) -> object:
    return SecretStr(value) if isinstance(value, str) else value


Engine = Annotated[
    SecretStr, BeforeValidator(_secret), AfterValidator(_parsable), Expects("a database URL")
]


class Table(Section):
    """``tablenames.file`` or ``tablenames.event``."""

    schema_name: TableName | None = Field(
        default=None,
        alias="schema",
        description="PostgreSQL schema; goes before `public` in the search path. It must exist.",
    )
    table: ViewName | None = Field(default=None, description="Name; also that of the view for SQL.")


class FileTable(Table):
    """``tablenames.file``."""

    table: ViewName | None = Field(
        default=DEFAULT_STORAGE_NAME,
        description="Name of the storage, and of the view of its files.",
    )


class EventTable(Table):
    """``tablenames.event``."""

    table: ViewName | None = Field(
        default=None,
        description="Name of the ingester, and of its view, into which RERUN can be inserted. "
        "Without it the ingester is named after its plugin.",
    )


class TableNames(Section):
    """``database.tablenames``."""

    file: Annotated[FileTable, null_as(FileTable)] = Field(default_factory=FileTable)
    event: Annotated[EventTable, null_as(EventTable)] = Field(default_factory=EventTable)
    # The older system's manual writes these without "file".
    schema_name: TableName | None = Field(
        default=None, alias="schema", description="The same as `tablenames.file.schema`."
    )
    table: ViewName | None = Field(default=None, description="The same as `tablenames.file.table`.")

    @model_validator(mode="after")
    def _merge(self) -> Self:
        given = self.file.model_fields_set
        for name, key in (("table", "table"), ("schema_name", "schema")):
            short = getattr(self, name)
            if short is None:
                continue
            if name in given and getattr(self.file, name) not in (None, short):
                raise refused_key(f"differs from tablenames.file.{key}: remove one of them", key)
            setattr(self.file, name, short)
        self.file.table = self.file.table or DEFAULT_STORAGE_NAME
        if self.event.table and self.event.table.lower() == self.file.table.lower():
            raise refused_key("is the name of the file table too: choose another", "event", "table")
        return self


class Database(Section):
    """``database``: where everything is recorded, and under which names."""

    engine: Engine | None = Field(
        default=None,
        description="`postgresql://`, `postgres://`, `postgresql+psycopg2://` or "
        "`sqlite:///path`. The same as `DATABASE_URL` in the environment; both may be set only "
        "if they are the same. It takes effect for the command and its workers; `manage.py "
        "migrate` and the web server read `DATABASE_URL` only.",
    )
    tablenames: Annotated[TableNames, null_as(TableNames)] = Field(default_factory=TableNames)
    echo: Flag = Field(default=False, description="Log every SQL statement, at level INFO.")
    pool_class: Name = Field(
        default="QueuePool",
        description="`NullPool`: no persistent connections. Others mean nothing here.",
    )

    @property
    def file_table(self) -> str:
        """Name of the storage."""
        return self.tablenames.file.table or DEFAULT_STORAGE_NAME

    @property
    def event_table(self) -> str | None:
        """Name of the ingester, if one is given."""
        return self.tablenames.event.table

    @property
    def file_schema(self) -> str | None:
        """PostgreSQL schema of the storage's view."""
        return self.tablenames.file.schema_name

    @property
    def event_schema(self) -> str | None:
        """PostgreSQL schema of the ingester's view."""
        return self.tablenames.event.schema_name

    @property
    def schema_name(self) -> str | None:
        """First schema of the search path."""
        return next(iter(self.schemas), None)

    @property
    def schemas(self) -> list[str]:
        """Schemas of the search path, in order, without ``public``."""
        return list(dict.fromkeys(name for name in (self.file_schema, self.event_schema) if name))


class Level(StrEnum):
    """How much is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class Rotate(StrEnum):
    """What makes a new log file begin."""

    TIME = "TIME"
    SIZE = "SIZE"


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _formats(text: str) -> str:
    record = logging.LogRecord("name", logging.INFO, "path", 1, "message", None, None)
    try:
        logging.Formatter(text).format(record)
    except Exception:
        raise ValueError("not a format") from None
    return text


LogFormat = Annotated[
    str,
    AfterValidator(_formats),
    Expects("a format of Python's logging such as %(asctime)s %(levelname)s %(message)s"),
]


class Logging(Section):
    """``logging``: where records go and how they look."""

    file: LocalPath | None = Field(default=None, description="Log file; null: standard error.")
    format: Annotated[LogFormat, null_as(lambda: DEFAULT_FORMAT)] = Field(
        default=DEFAULT_FORMAT, description="Format of Python's logging."
    )
    level: Annotated[
        Level,
        Field(strict=False),
        BeforeValidator(_upper),
        Expects(", ".join(list(Level)[:-1]) + " or CRITICAL"),
    ] = Field(default=Level.INFO, description="Least level that is logged.")
    rotate: (
        Annotated[
            Rotate, Field(strict=False), BeforeValidator(_upper), Expects("TIME, SIZE or null")
        ]
        | None
    ) = Field(default=None, description="Begin a new file by TIME or by SIZE; null: never.")
    when: Annotated[
        str,
        BeforeValidator(_upper),
        Field(pattern=r"\A(S|M|H|D|MIDNIGHT|W[0-6])\z"),
        Expects("S, M, H, D, MIDNIGHT or W0 (Monday) to W6"),
    ] = Field(default="H", description="Unit of `interval`, for TIME.")
    interval: Positive = Field(default=1, description="Units between files, for TIME.")
    maxbytes: Count = Field(
        default=0, description="Bytes after which a new file begins, for SIZE; 0: never."
    )
    backup_count: Count = Field(
        default=0,
        description="Older files that are kept. With 0 none is ever removed for TIME, and no new "
        "file ever begins for SIZE.",
    )

    @model_validator(mode="after")
    def _rotates_a_file(self) -> Self:
        if self.rotate is not None and self.file is None:
            raise refused_key("only a file can be rotated: set logging.file", "rotate")
        return self
