"""``manage.py resume``: have a finder or an ingester go on that was paused."""

from __future__ import annotations

from buffer import operator_pauses
from buffer.management.commands._pausing import PausingCommand
from buffer.operator_pauses import Pausable


class Command(PausingCommand):
    help = "Let a finder or an ingester go on that a person has paused."

    def act(self, what: Pausable, *, user: str, note: str) -> str:
        if operator_pauses.resume(what, user=user, note=note):
            return f"{what}: goes on"
        return f"{what}: was not paused"
