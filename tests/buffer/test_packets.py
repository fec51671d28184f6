"""The queue and the timer that work without locks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest

from buffer.board import Board
from buffer.packets import MAX_PACKET_BYTES, Deadline, PacketQueue


def test_items_come_whole_and_in_order() -> None:
    queue = PacketQueue()
    assert queue.empty()
    items = [{"id": 1, "args": ("a",)}, "STOP", {"result": "x" * 100_000}]
    for item in items:
        queue.put(item)
    assert not queue.empty()
    assert queue.qsize() == 1
    assert [queue.get() for _ in items] == items
    assert queue.empty()
    queue.close()
    queue.join_thread()


def test_handing_over_waits_for_a_reader() -> None:
    queue = PacketQueue(handover=True)
    taken: list[float] = []

    def read() -> None:
        time.sleep(0.2)
        taken.append(time.monotonic())
        queue.get()

    reader = threading.Thread(target=read)
    reader.start()
    queue.put("item")
    assert taken and time.monotonic() >= taken[0]
    reader.join()


def test_readers_killed_while_they_wait_block_nobody() -> None:
    queue = PacketQueue()
    context = multiprocessing.get_context("fork")
    for _ in range(10):
        reader = context.Process(target=queue.get)
        reader.start()
        time.sleep(0.01)
        os.kill(reader.pid or 0, signal.SIGKILL)
        reader.join()
    queue.put("item")
    assert queue.get() == "item"


def test_an_item_too_large_is_dropped_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    queue = PacketQueue()
    queue.put("x" * 4 * MAX_PACKET_BYTES)
    assert queue.empty()
    assert "too large" in caplog.text


def test_an_unpicklable_result_is_replaced() -> None:
    queue = PacketQueue()
    queue.put({"id": 1, "result": lambda: None})
    item = queue.get()
    assert item["id"] == 1
    assert item["result"].startswith("unpicklable result")


def test_a_deadline_counts_down_by_itself() -> None:
    timer = Deadline(Board(1).slots[0])
    for fixed in (-1, -2, 0):
        timer.value = fixed
        assert timer.value == fixed
    with timer.get_lock():
        timer.value = 0.05
        timer.value += 0.05
    assert 0.05 < timer.value <= 0.1
    time.sleep(0.11)
    assert timer.value == 0
