"""SIGKILL for each kind of process, in the middle of its work."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from ingest.statuses import Status
from tests.system import process_table
from tests.system.product import Command, Product

FILES = 500


def counted(path: Path) -> Counter[str]:
    """Count how often the counting plugin was given each file."""
    return Counter(path.read_text().split("\n")[:-1]) if path.exists() else Counter()


def kill_one(command: Command, role: str, dice: random.Random) -> None:
    """Kill a worker, the sentinel or a plugin host of a command."""
    below = [pid for pid, _ in process_table.descendants(command.process.pid)]
    if role == "host":
        pids = [pid for pid in below if "ingest.host_child" in process_table.command_line(pid)]
    else:
        pids = [pid for pid in below if process_table.name_of(pid).startswith(role)]
    assert pids, f"there is no {role} among {[process_table.name_of(pid) for pid in below]}"
    os.kill(dice.choice(pids), signal.SIGKILL)


def test_each_file_once_although_workers_hosts_and_sentinel_are_killed(product: Product) -> None:
    product.add_plugins()
    listed = product.root / "list"
    for number in range(FILES):
        product.land(f"night/{number:03d}.fits")
    product.run("runfinder", product.finder_yaml(), "--once").succeeded()
    ingester_yaml = product.ingester_yaml(
        "observatory_plugins.Counting",
        {"list": str(listed), "pause": 0.01},
        num_threads=4,
        batch_size=5,
    )
    seed = random.randrange(1000)
    dice = random.Random(seed)
    print(f"seed {seed}")  # shown if the test fails
    command = product.start("runingester", ingester_yaml, "--once")
    for number, role in enumerate(["worker", "host", "sentinel", "host", "worker"], start=1):
        product.wait(lambda n=number: sum(counted(listed).values()) >= 70 * n, "at work")  # type: ignore[misc]
        kill_one(command, role, dice)
    # Nobody helps it: what the dead held lapses, and the others finish the rest.
    done = command.ends(90)
    done.succeeded()
    product.check_at_rest()

    assert product.left_over() == []
    statuses = product.statuses()
    assert set(statuses) <= {Status.SUCCESS, Status.UNKNOWN}, statuses
    assert sum(statuses.values()) == FILES
    # At most one batch for each worker that died, and for each host.
    assert 0 < statuses[Status.UNKNOWN] <= (4 + 4) * 5, statuses
    assert max(counted(listed).values()) == 1

    # The operator asks for those whose outcome nobody knows; the others are let alone.
    unknown = {
        name
        for (name,) in product.rows(
            "SELECT filename FROM buffer_file f JOIN ingest_ingestion n ON n.file_id = f.id"
            " WHERE n.status = 'UNKNOWN'"
        )
    }
    asked = product.admin("rerun", "--ingester", "file_events", "--status", "UNKNOWN").succeeded()
    assert f"{len(unknown)} file" in asked
    product.run("runingester", ingester_yaml, "--once").succeeded()
    assert product.statuses() == {Status.SUCCESS: FILES}
    counts = counted(listed)
    assert len(counts) == FILES
    assert {name for name, times in counts.items() if times > 1} <= unknown
    assert max(counts.values()) <= 2


def test_both_commands_are_killed_in_mid_stream_and_started_again(product: Product) -> None:
    """Nothing is lost; and a plugin that can tell what it has leaves nothing unknown."""
    product.add_plugins()
    listed = product.root / "list"
    finder_yaml = product.finder_yaml()
    ingester_yaml = product.ingester_yaml(
        "observatory_plugins.CountingAndTelling",
        {"list": str(listed), "pause": 0.01},
        num_threads=2,
        batch_size=20,
        retry={"backoff": 0.2},
    )
    sent = {}
    finder = product.start("runfinder", finder_yaml)
    ingester = product.start("runingester", ingester_yaml)

    def send(count: int) -> None:
        for _ in range(count):
            name = f"night/{len(sent):04d}.fits"
            sent[name] = os.urandom(300)
            product.land(name, sent[name])

    def kill(command: Command) -> None:
        below = process_table.descendants(command.process.pid)
        assert len(below) >= 4
        command.kill()
        product.wait(
            lambda: not any(process_table.is_alive(*one) for one in below), "its workers die too", 5
        )

    send(200)
    product.wait(lambda: len(counted(listed)) > 20, "the ingester is at work")
    for round_ in range(3):
        before = product.stored()
        send(100)
        product.wait(lambda n=before: product.stored() > n, "the finder is at work")  # type: ignore[misc]
        time.sleep(0.02 * round_)  # somewhere else each time
        kill(finder)
        finder = product.start("runfinder", finder_yaml)
    held = "SELECT count(*) FROM ingest_ingestion WHERE claim IS NOT NULL"
    product.wait(lambda: product.value(held) > 0, "it works on files")
    kill(ingester)
    ingester = product.start("runingester", ingester_yaml)
    product.wait(lambda: product.stored() == len(sent), "everything is stored")
    product.wait(lambda: product.statuses() == {Status.SUCCESS: len(sent)}, "and ingested")
    finder.stops()
    ingester.stops()
    product.check_at_rest()

    assert product.files_in(product.storage) == sent
    assert product.files_in(product.buffer) == {}
    assert not list((product.storage / ".incoming").glob("*")), "copies are left over"
    assert counted(listed) == Counter(name.partition("/")[2] for name in sent)
