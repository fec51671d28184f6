"""Bring the tables of configuration.md up to date with the models that check the files.

Run it from the top of the project: ``python docs/update_configuration.py``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "endpoint_site.settings")

from pydantic import BaseModel  # noqa: E402
from pydantic.fields import FieldInfo  # noqa: E402

from buffer.config_errors import expectation, inner_model  # noqa: E402
from buffer.finder_config import Finder  # noqa: E402
from buffer.sections import Database, Logging  # noqa: E402
from ingest.backfill_config import BackfillSection  # noqa: E402
from ingest.config import IngesterSection  # noqa: E402
from ingest.plugin_config import Gen2Config, Gen3Config  # noqa: E402

PAGE = TOP / "docs" / "configuration.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "database": Database,
    "logging": Logging,
    "finder": Finder,
    "ingester": IngesterSection,
    "backfill": BackfillSection,
    "Gen3Ingest": Gen3Config,
    "Gen2Ingest": Gen2Config,
}
#: Keys below ingester.plugin.config are written from there on.
PREFIXES = {"Gen3Ingest": "", "Gen2Ingest": ""}


def rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, values, default and meaning of every key of a section."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner = inner_model(field.annotation)
        if inner is None:
            yield key, values(field), default(field), field.description or ""
            continue
        if is_optional(field):
            yield key, "a mapping, or null", "null", field.description or ""
        yield from rows(inner, f"{key}.")


def values(field: FieldInfo) -> str:
    """Say what a key's values may be."""
    text = expectation(field.annotation, field.metadata) or "anything"
    return f"{text}, or null" if is_optional(field) and "null" not in text else text


def is_optional(field: FieldInfo) -> bool:
    """Tell if a key may be null."""
    union = get_origin(field.annotation) in (Union, UnionType)
    return union and type(None) in get_args(field.annotation)


def default(field: FieldInfo) -> str:
    """Show a key's default as it would be written in YAML."""
    if isinstance(field.json_schema_extra, dict) and "shown_default" in field.json_schema_extra:
        return str(field.json_schema_extra["shown_default"])
    if field.is_required():
        return "required"
    return show(field.get_default(call_default_factory=True))


def show(value: Any) -> str:
    """Show a value as it would be written in YAML."""
    if value is None or value in ([], {}):
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(show(item) for item in value)
    return f"`{value}`" if isinstance(value, str) else str(value)


def table(section: str) -> str:
    """Make the table of one section."""
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for row in rows(SECTIONS[section], PREFIXES.get(section, f"{section}.")):
        key, *others = (cell.replace("|", r"\|") for cell in row)
        lines.append(f"| `{key}` | {' | '.join(others)} |")
    return "\n".join(lines)


def render(page: str) -> str:
    """Replace the tables of a page by new ones."""

    def replaced(match: re.Match[str]) -> str:
        return f"{match[1]}\n{table(match[2])}\n{match[3]}"

    return re.sub(r"(<!-- keys of (\w+) -->)\n.*?(<!-- end -->)", replaced, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
