"""Hiding passwords in text that people, logs and databases get to see."""

from __future__ import annotations

import re

HIDDEN = "***"

# Greedy up to the last @ of the word, because a password that should have been percent-encoded
# may hold @, / or : itself; hiding too much of a log line is the smaller harm.
_IN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://[^\s:/@\"']*):([^\s\"']+)@")
# libpq's "password=..." (in a DSN or a URL's query) and the same key in JSON or a printed dict.
_IN_WORDS = re.compile(
    r"(?i)\b((?:[a-z]+_)?(?:password|passwd|sslpassword|secret)\b[\"']?\s*[=:]\s*)"
    r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s&,;)}\]\"']+)"
)

_AFTER_COLON = re.compile(r":\S+@")


def redact(text: str) -> str:
    """Replace every password in ``text`` that belongs to a URL or is named as one by ``***``."""
    if "://" in text:
        text = _IN_URL.sub(rf"\1:{HIDDEN}@", text)
    return _IN_WORDS.sub(rf"\1{HIDDEN}", text)


def redact_slip(text: str) -> str:
    """Redact a line about a configuration, in which a slip may have cut a URL anywhere.

    ``user:password@host`` is hidden without a scheme in front of it too. Too much for a log, where
    the names of files may look like that.
    """
    return _AFTER_COLON.sub(f":{HIDDEN}@", redact(text))
