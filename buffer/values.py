"""Types of the values in configuration files, each with the words that an error shows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import regex
from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

WEEK_S = 7 * 24 * 3600.0
YEAR_S = 366 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Expects:
    """Annotation of a type: what its values may be, in an operator's words.

    Put it last: whatever the type and the annotations before it refuse is reported as
    "expected <text>, got <value>".
    """

    text: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._validate, handler(source))

    def _validate(self, value: Any, inner: Callable[[Any], Any]) -> Any:
        try:
            return inner(value)
        except ValidationError as error:
            # What says more than "expected ..." is kept: refusals, and errors of list items.
            if any(item["type"] in ("refused", "expected") for item in error.errors()):
                raise
            raise PydanticCustomError("expected", "{text}", {"text": self.text}) from None


def refused(text: str) -> PydanticCustomError:
    """Make the error for a value whose reason says more than what was expected instead."""
    return PydanticCustomError("refused", "{text}", {"text": text})


def _whole_path(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError("not a path")
    if value.startswith("~"):
        raise refused("~ is not expanded: write the whole path")
    # Absolute at once: workers may run in another directory.
    return Path(os.path.abspath(value))


def _compiles(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise refused(f"not a regular expression: {error}") from None
    except Exception as error:
        raise refused(f"not a usable regular expression: {type(error).__name__}") from None
    return pattern


def _excludes_something(pattern: str) -> str:
    if not pattern:
        raise refused("an empty regular expression matches every path: remove it")
    return pattern


def _iso_date(value: Any) -> Any:
    return date.fromisoformat(value) if isinstance(value, str) else value


def at_most(limit: float) -> AfterValidator:
    """Make the annotation that refuses numbers that can only be mistakes."""

    def check(value: float) -> float:
        if value > limit:
            raise refused(f"is too much: at most {limit:.0f}")
        return value

    return AfterValidator(check)


def null_as(make: Callable[[], Any]) -> BeforeValidator:
    """Make the annotation that takes a key without a value as if it were not there."""
    return BeforeValidator(lambda value: make() if value is None else value)


Flag = Annotated[bool, Expects("true or false")]
Text = Annotated[str, Expects("text (put it in quotes)")]
Name = Annotated[str, Field(min_length=1), Expects("a name")]
Count = Annotated[int, Field(ge=0), at_most(2**62), Expects("an integer of 0 or more")]
Positive = Annotated[int, Field(ge=1), at_most(2**31 - 1), Expects("an integer of 1 or more")]
Days = Annotated[int, Field(ge=0), at_most(36500), Expects("an integer of 0 or more")]
Seconds = Annotated[
    float,
    Field(ge=0, allow_inf_nan=False),
    at_most(YEAR_S),
    Expects("a number of seconds, 0 or more"),
]
SomeSeconds = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    at_most(WEEK_S),
    Expects("a number of seconds, more than 0"),
]
SomeHours = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    at_most(YEAR_S / 3600),
    Expects("a number of hours, more than 0"),
]
SomeMinutes = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    at_most(YEAR_S / 60),
    Expects("a number of minutes, more than 0"),
]
LocalPath = Annotated[Path, BeforeValidator(_whole_path), Expects("a path")]
Day = Annotated[date, BeforeValidator(_iso_date), Expects("a date like 2020-12-31")]
Pattern = Annotated[str, AfterValidator(_compiles), Expects("a regular expression")]
Patterns = Annotated[
    list[Pattern], null_as(list), Expects("a list of regular expressions, or null")
]
ExcludePatterns = Annotated[
    list[Annotated[Pattern, AfterValidator(_excludes_something)]],
    null_as(list),
    Expects("a list of regular expressions, or null"),
]
TableName = Annotated[
    str,
    Field(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,62}\z"),
    Expects("a name of letters, digits and _ (at most 63, no digit first)"),
]
