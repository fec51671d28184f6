"""The points of our protocols at which a crash must leave what the next start can mend."""

from __future__ import annotations


def reached(step: str) -> None:
    """Mark a step of a protocol. Does nothing; fault tests crash here."""
