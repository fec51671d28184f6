"""Showing what others wrote to a person: messages of plugins, settings with passwords in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from buffer.names import escape
from buffer.redaction import HIDDEN, redact

_SECRET_KEY = re.compile(r"passw|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U(0[0-9a-f]{7})")
_KEPT = "\n\t\\"


def message(text: str) -> str:
    """Make a message safe to show: printable, its lines kept, passwords hidden.

    Terminals obey control characters, and bidi characters make text read as what it is not.
    """
    return redact("".join(c if c.isprintable() or c in _KEPT else escape(c) for c in text))


def settings(value: Any) -> Any:
    """Copy settings without their secrets: passwords in texts, and whatever a key names as one."""
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if _SECRET_KEY.search(str(key)) and inner else settings(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [settings(inner) for inner in value]
    return message(value) if isinstance(value, str) else value


def unescape(text: str) -> str:
    r"""Read a name as the program shows it (``\xNN``, ``\uNNNN``); see `buffer.names.escape`."""
    return _ESCAPED.sub(lambda found: _char(int(found[1] or found[2] or found[3], 16)), text)


def _char(code: int) -> str:
    return chr(code) if code <= 0x10FFFF else "\ufffd"


def is_text(term: str) -> bool:
    """Tell whether the database can hold it; no stored file has a name that is not UTF-8."""
    try:
        term.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in term
