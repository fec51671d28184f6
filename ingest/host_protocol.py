"""What a plugin host and its child say to each other: one JSON object per line, in ASCII.

Both ends import this module, so it must need neither Django nor any plugin.

======================  =========================================================
to the child            ``load`` (plugin, config, path), ``ingest`` (paths),
                        ``contains`` (paths), ``close``
from the child          ``loaded`` (version, in_order, contains), ``config_error``,
                        ``unavailable``, ``begun``, ``outcome``, ``junk``,
                        ``contained`` (paths), ``raised`` (message, exit), ``done``
======================  =========================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Longest line either end accepts, in bytes.  A shortened message cannot reach it: one
#: character takes at most 12 bytes when it is escaped.
MAX_LINE = 1_000_000

#: Longest message of a plugin that is kept, in characters.
MAX_MESSAGE = 64 * 1024

#: Marks every process of one host in /proc/PID/environ, those that left its session included.
TOKEN_VARIABLE = "ENDPOINT_PLUGIN_HOST"


def encode(message: Mapping[str, Any]) -> bytes:
    """Return the line for a message; ASCII, so that any file name survives the way."""
    return json.dumps(message, ensure_ascii=True, default=str).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Return the message of a line; raise ValueError if there is none."""
    message = json.loads(line.decode("ascii"))
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ValueError("expected a JSON object with a type")
    return message


def shorten(text: str, limit: int = MAX_MESSAGE) -> str:
    """Return the text, cut at ``limit`` characters with a remark of how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - 60]}… [{len(text) - limit + 60} more characters]"


def printable(text: str) -> str:
    """Return the text as a database and a terminal can take it.

    Line feeds and tabs stay; other control characters and surrogates become ``\\xNN`` or
    ``\\uNNNN``: PostgreSQL refuses NUL, UTF-8 refuses surrogates, a terminal obeys escapes.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" or char == " " else _escaped(char)
        for char in text
    )


def _escaped(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def describe(error: BaseException) -> str:
    """Return an exception and its causes as one line for an operator.

    Must not fail, whatever the exception: it may come from anybody's code.
    """
    parts: list[str] = []
    link: BaseException | None = error
    while link is not None and len(parts) < 5:
        name = type(link).__name__
        try:
            text = str(link).strip()
        except BaseException:
            text = "(its text cannot be shown)"
        parts.append(f"{name}: {text}" if text else name)
        link = link.__cause__
    return shorten("; caused by ".join(parts))
