"""Patterns of paths, as regular expressions that PostgreSQL and Python both understand."""

from __future__ import annotations

from typing import Final

_SPECIAL: Final = frozenset(".^$*+?()[]{}|\\")
_WILD: Final = frozenset("*?[")


def is_pattern(text: str) -> bool:
    """Tell whether a path has wildcards."""
    return not _WILD.isdisjoint(text)


def path_regex(pattern: str) -> str:
    """Translate a pattern of paths.

    Parameters
    ----------
    pattern : `str`
        A path, or a pattern in which ``*`` and ``?`` stand for characters of one part of a path,
        ``**`` for any number of parts, and ``[abc]`` for one of some characters.

    Returns
    -------
    regex : `str`
        Matches the paths themselves, and everything below those that are directories.
    """
    regex, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**", at):
            # "a/**/b" is also "a/b".
            slash = pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/")
            regex += "(.*/)?" if slash else ".*"
            at += 3 if slash else 2
            continue
        if char == "[" and (end := pattern.find("]", at + 2)) != -1:
            regex += _one_of(pattern[at + 1 : end])
            at = end + 1
            continue
        regex += {"*": "[^/]*", "?": "[^/]"}.get(char) or _literal(char)
        at += 1
    return f"^{regex}(/.*)?$"


def _literal(char: str) -> str:
    return f"\\{char}" if char in _SPECIAL else char


def _one_of(chars: str) -> str:
    negated = chars[:1] in ("!", "^") and len(chars) > 1
    listed = "".join(
        f"\\{char}" if char in "[]\\^" else char for char in (chars[1:] if negated else chars)
    )
    return f"[^/{listed}]" if negated else f"[{listed}]"
