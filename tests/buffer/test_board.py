"""What a cluster's processes tell each other."""

from __future__ import annotations

from buffer.board import FIRST_WORKER, SENTINEL, Board


def test_who_has_not_joined_has_no_pid() -> None:
    board = Board(2)
    assert board.pids() == {"sentinel": [], "monitor": [], "pusher": [], "worker": []}
    board.slots[SENTINEL].pid = 7
    board.slots[FIRST_WORKER + 1].pid = 8
    assert board.pids() == {"sentinel": [7], "monitor": [], "pusher": [], "worker": [8]}
