"""Saying what is wrong in a configuration file, key by key and without showing secrets."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from buffer.names import escape
from buffer.problems import Problem
from buffer.redaction import redact_slip
from buffer.values import Expects
from buffer.yamlfile import Document, KeyPath, show_key

#: The section that says which component a file is for.
COMPONENTS = ("finder", "ingester", "backfill")

MAX_SHOWN = 60
_SECRET_KEY = re.compile(r"(?i)passw|secret|token|credential|api_?key|private|^engine$")

_KINDS = {
    "model_type": "expected a mapping (keys and values)",
    "dict_type": "expected a mapping (keys and values)",
    "list_type": "expected a list",
}


def problems_of(
    error: ValidationError, document: Document, model: type[BaseModel]
) -> Iterator[Problem]:
    """Turn pydantic's errors into problems with keys and lines.

    Parameters
    ----------
    error : `pydantic.ValidationError`
        What validating ``document.data`` raised.
    document : `buffer.yamlfile.Document`
        The file.
    model : `type` [`pydantic.BaseModel`]
        The model of the whole file.

    Yields
    ------
    problem : `Problem`
        In no particular order.
    """
    for key, item, within in _flat(error.errors(include_url=False), (), model):
        text = _text(key, item, model, within)
        yield Problem(document.line(key), show_key(key), text)


def _flat(
    items: list[ErrorDetails], above: KeyPath, model: type[BaseModel]
) -> Iterator[tuple[KeyPath, ErrorDetails, tuple[KeyPath, type[BaseModel]]]]:
    """Unfold the errors of models that were validated inside another one (plugin.config)."""
    for item in items:
        key = (*above, *item["loc"])
        if item["type"] == "nested":
            yield from _flat(item["ctx"]["errors"], key, item["ctx"]["model"])
        else:
            # A check of a whole section that concerns one of its keys names that key.
            if item["type"] == "refused" and (name := item.get("ctx", {}).get("key")):
                key = (*key, *name)
            yield key, item, (above, model)


def _text(
    key: KeyPath,
    item: ErrorDetails,
    model: type[BaseModel],
    within: tuple[KeyPath, type[BaseModel]],
) -> str:
    kind = item["type"]
    above, inner = within
    below = key[len(above) :]
    if kind == "extra_forbidden":
        return _unknown(key, above, inner, model)
    if kind == "missing":
        description = _describe(inner, below)
        return f"is required{f': {description}' if description else ''}"
    if kind == "refused":
        return item["msg"]
    expected = f"expected {item['msg']}" if kind == "expected" else _KINDS.get(kind)
    if expected is None:
        # Not reached by the models of this program; never the message alone, which names types.
        return f"{item['msg']}, got {show(item['input'], key)}"
    return f"{expected}, got {show(item['input'], key)}"


def show(value: Any, key: KeyPath = ()) -> str:
    """Show a value of a configuration file without giving away a secret."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if any(isinstance(part, str) and _SECRET_KEY.search(part) for part in key):
        return "text that is not shown" if isinstance(value, str) else "a value of another type"
    if not isinstance(value, str):
        return str(value)[:MAX_SHOWN]
    if "://" in value:
        # Whatever follows may hold a password, well-formed or not.
        return f'"{escape(value.partition("://")[0])[:MAX_SHOWN]}://..."'
    shown = escape(redact_slip(value))
    if len(shown) > MAX_SHOWN:
        shown = f"{shown[:MAX_SHOWN]}..."
    return f'"{shown}"'


def _unknown(key: KeyPath, above: KeyPath, inner: type[BaseModel], model: type[BaseModel]) -> str:
    """Say that a key is not known, and which known one was most likely meant."""
    name = str(key[-1])
    if len(key) == 1 and name in COMPONENTS:
        return f"unknown key here: this is the file of another component, {name}"
    section = _model_at(inner, key[len(above) : -1])
    siblings = list(_keys(section)) if section else []
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    if close:
        return f'unknown key: did you mean "{close[0]}"?'
    known = [*((*above, *path) for path in _paths(inner, ())), *_paths(model, ())]
    elsewhere = [path for path in known if path[-1] == name]
    if elsewhere:
        return f'unknown key here: did you mean "{show_key(elsewhere[0])}"?'
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=0.0)
    others = f"; known here: {', '.join(siblings)}" if siblings else ""
    return f'unknown key: the nearest known key is "{close[0]}"{others}' if close else "unknown key"


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


def _paths(model: type[BaseModel], above: KeyPath) -> Iterator[KeyPath]:
    for name, field in model.model_fields.items():
        key = (*above, field.alias or name)
        yield key
        inner = inner_model(field.annotation)
        if inner is not None:
            yield from _paths(inner, key)


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """Find the section that a field's type is, or is optionally."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        found = inner_model(part)
        if found is not None:
            return found
    return None


def expectation(annotation: Any, metadata: list[Any]) -> str | None:
    """Find what a field expects, in words."""
    for item in reversed(metadata):
        if isinstance(item, Expects):
            return item.text
    for part in get_args(annotation):
        found = expectation(part, list(getattr(part, "__metadata__", ())))
        if found is not None:
            return found
    return None


def _model_at(model: type[BaseModel], key: KeyPath) -> type[BaseModel] | None:
    found: type[BaseModel] | None = model
    for part in key:
        if found is None:
            return None
        fields = {field.alias or name: field for name, field in found.model_fields.items()}
        field = fields.get(str(part))
        found = inner_model(field.annotation) if field else None
    return found


def _describe(model: type[BaseModel], key: KeyPath) -> str | None:
    section = _model_at(model, key[:-1])
    if section is None:
        return None
    for name, field in section.model_fields.items():
        if (field.alias or name) == key[-1]:
            return field.description
    return None
