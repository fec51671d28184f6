"""An ingester killed at every step between a file's claim and its outcome, then started again."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection

from ingest.models import Ingester
from ingest.statuses import Status
from tests.faults import ingest_pass
from tests.faults.dying import kill_at
from tests.faults.ingest_scenes import SCENES, MakeFile, Scene, Several
from tests.system import process_table
from tests.system.product import ROOT
from tests.tally import Tally
from tests.tools import need

MakeScene = Callable[[type[Scene]], Scene]


@pytest.fixture
def make_scene(
    transactional_db: None, ingester: Ingester, make_file: MakeFile, tmp_path: Path
) -> MakeScene:
    return lambda kind: kind(ingester, make_file, tmp_path)


def kill_at_statement(number: int) -> None:
    """Kill this process when it is about to run its n-th SQL statement from now on."""
    left = [number]

    def count(execute: Callable[..., Any], *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*arguments)

    connection.execute_wrappers.append(count)


def lose_commit(number: int) -> None:
    """Let the n-th commit take place, and the connection be gone before it is known."""
    left, plainly = [number], connection._commit

    def commit() -> None:
        plainly()
        left[0] -= 1
        if left[0]:
            return
        if connection.vendor == "sqlite":
            raise OperationalError("disk I/O error")
        with socket.socket(fileno=os.dup(connection.connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
        with connection.wrap_database_errors:
            connection.connection.cursor().execute("SELECT 1")

    connection._commit = commit


def sweep(
    scene: Scene,
    hurt: Callable[[int], int],
    numbers: Iterable[int],
    *,
    again: bool = False,
    survivable: bool = False,
) -> int:
    """Hurt a pass at each of some points, and run another to its end.

    Parameters
    ----------
    scene
        What is worked on.
    hurt
        Runs the pass that is hurt at a point; gives its exit status.
    numbers
        The points. If they have no end, they end with the first that is not reached.
    again
        After every other point kill the next pass too, somewhere near its beginning.
    survivable
        What is done is not a kill; points are not reached if the pass ends well.

    Returns
    -------
    hurt : int
        How often it was.
    """
    count = missed = 0
    for number in numbers:
        scene.begin()
        status = hurt(number)
        try:
            scene.check()
            if again and number % 2:
                scene.run(1, kill_at(1 + number % 9))
                scene.check()
            assert scene.run(2) == 0
            scene.check_end()
        except AssertionError as error:
            raise AssertionError(f"hurt at point {number}: {error}") from error
        if status < 0 or survivable:
            count += 1
            continue
        assert status == 0
        # The number of renewals depends on the speed of the plugin.
        missed += 1
        if missed > 2:
            break
    return count


def at_step(scene: Scene) -> Callable[[int], int]:
    return lambda n: scene.run(0, kill_at(n))


@pytest.mark.parametrize("kind", SCENES)
def test_killed_at_each_kind_of_step(
    make_scene: MakeScene, kind: type[Scene], tally: Tally
) -> None:
    scene = make_scene(kind)
    names = scene.steps()
    firsts = [n for n, name in enumerate(names, start=1) if names.index(name) == n - 1]
    some = firsts[SCENES.index(kind) :: len(SCENES)]
    killed = sweep(scene, at_step(scene), some)
    assert killed >= len(some) - 1
    tally(f"ingester killed at a step, {connection.vendor}", killed)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", SCENES)
def test_killed_at_every_step(make_scene: MakeScene, kind: type[Scene], tally: Tally) -> None:
    scene = make_scene(kind)
    expected = len(scene.steps())
    killed = sweep(scene, at_step(scene), itertools.count(1), again=True)
    assert killed >= expected - 4
    tally(f"ingester killed at a step, {connection.vendor}", killed + killed // 2)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", SCENES)
def test_killed_at_every_statement(make_scene: MakeScene, kind: type[Scene], tally: Tally) -> None:
    scene = make_scene(kind)
    killed = sweep(scene, lambda n: scene.run(0, lambda: kill_at_statement(n)), itertools.count(1))
    assert killed > 30
    tally(f"ingester killed at an SQL statement, {connection.vendor}", killed)


#: Commits of a pass that nobody disturbs; more are no harm.
COMMITS = 20


def test_a_claim_has_several_batches_and_writes_them_together(make_scene: MakeScene) -> None:
    scene = make_scene(Several)
    names = scene.steps()
    events = [event for one in scene.events().values() for event in one]
    begun = Counter(e.claim for e in events if e.status == Status.PENDING and e.worker)
    assert max(begun.values()) > 1
    # For each claim: the beginning of its first batch, the end of its last, and one between each
    # two; and one for the operator's RERUN.
    assert names.count("transition made") == len(scene.files) + len(begun) + 1, names


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        pytest.param(Scene, [3, 5], id="some"),
        *(
            pytest.param(k, range(1, COMMITS), id=k.__name__, marks=pytest.mark.full)
            for k in SCENES
        ),
    ],
)
@pytest.mark.timeout(600)
def test_a_commit_whose_answer_is_lost(
    make_scene: MakeScene, kind: type[Scene], numbers: Iterable[int], tally: Tally
) -> None:
    """Nothing is recorded twice, whoever tries again."""
    scene = make_scene(kind)
    lost = sweep(scene, lambda n: scene.run(0, lambda: lose_commit(n)), numbers, survivable=True)
    tally(f"commit whose answer is lost, {connection.vendor}", lost)


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([40], id="some"),
        pytest.param(range(3, 10_000, 2), id="all", marks=pytest.mark.full),
    ],
)
@pytest.mark.timeout(1800)
def test_killed_at_a_system_call(
    make_scene: MakeScene, database_url: str, numbers: Iterable[int], tally: Tally
) -> None:
    """What goes to the server, or into SQLite's log; counted from the start of the process."""
    strace = need("strace")
    scene = make_scene(Scene)
    call = "pwrite64" if connection.vendor == "sqlite" else "sendto"
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "endpoint_site.settings",
    }

    def hurt(number: int) -> int:
        kill = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
        command = ingest_pass.command_line(scene.setting)
        done = subprocess.run(
            [strace, "-qq", "-o", "/dev/null", *kill, *command],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            check=False,
            timeout=300,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
        return done.returncode

    killed = sweep(scene, hurt, numbers)
    assert killed > 0
    tally(f"ingester killed at {call}, {connection.vendor}", killed)


@pytest.mark.full
def test_a_worker_that_stands_still_and_wakes(make_scene: MakeScene, tally: Tally) -> None:
    """Stopped for longer than its lease, with its plugin; others have its files by then."""
    scene = make_scene(Scene)
    scene.begin()
    assert scene.run(0) == 0
    known = len(scene.counts())
    scene.add("x", "y", "z")
    scene.set_pause(60)
    connection.close()
    pid = os.fork()
    if pid == 0:
        scene.work(0)
        os._exit(0)
    end = time.monotonic() + 120
    while len(scene.counts()) == known:
        assert time.monotonic() < end and os.waitpid(pid, os.WNOHANG) == (0, 0)
        time.sleep(0.05)
    everybody = [pid, *(child for child, _ in process_table.descendants(pid))]
    for one in everybody:
        os.kill(one, signal.SIGSTOP)
    scene.set_pause(0)
    assert scene.run(1) == 0
    scene.check_end()
    for one in reversed(everybody):
        os.kill(one, signal.SIGCONT)
    os.waitpid(pid, 0)
    scene.check_end()
    tally(f"worker and plugin stopped past the lease, {connection.vendor}", 1)
