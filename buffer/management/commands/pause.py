"""``manage.py pause``: have a finder or an ingester do nothing until it is resumed."""

from __future__ import annotations

from buffer import operator_pauses
from buffer.management.commands._pausing import PausingCommand
from buffer.operator_pauses import Pausable


class Command(PausingCommand):
    help = "Pause a finder or an ingester. What is begun is finished; a restart changes nothing."

    def act(self, what: Pausable, *, user: str, note: str) -> str:
        if operator_pauses.pause(what, user=user, note=note):
            return f"{what}: paused"
        return f"{what}: was {operator_pauses.look(what)} already"
