"""The points of the take-in protocol at which a crash must leave what recovery can mend."""

from __future__ import annotations


def reached(step: str) -> None:
    """Mark a step of the protocol. Does nothing; fault tests crash here."""
