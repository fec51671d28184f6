"""Messages of failures, normalised so that equal causes look equal."""

from __future__ import annotations

import re
from typing import Final

MAX_LENGTH: Final = 200

# Order matters: what looks like a path may contain what looks like a number.
_PATTERNS: Final = (
    (re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE), "<url>"),
    (re.compile(r"(?<![\w/])/[^\s'\",;:)\]}]+"), "<path>"),
    (re.compile(r"\b[\w.-]+\.(?:fits|fz|json|gz|sqlite3?|yaml)\b", re.IGNORECASE), "<file>"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b0x[0-9a-f]+\b|\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?Z?"), "<time>"),
    (re.compile(r"[A-Z]{2,}[A-Z_]*\d{4,}\w*"), "<id>"),
    (re.compile(r"(?<![\w<])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)", re.IGNORECASE), "<n>"),
)  # fmt: skip


def cause_of(message: str) -> str:
    """Reduce a message to what it has in common with others of the same cause.

    Parameters
    ----------
    message : `str`
        What the plugin said; only its first line tells the cause.

    Returns
    -------
    cause : `str`
        At most `MAX_LENGTH` characters, without paths, numbers, times and ids.
    """
    first = next((line.strip() for line in message.splitlines() if line.strip()), "")
    for pattern, placeholder in _PATTERNS:
        first = pattern.sub(placeholder, first[:2000])
    return first[:MAX_LENGTH]
