"""Looking at processes and ending them."""

from __future__ import annotations

import os
import subprocess
import sys

from buffer import processes


def test_children_and_descendants() -> None:
    shell = subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE)
    assert shell.stdout is not None
    shell.stdout.readline()
    assert shell.pid in [process.pid for process in processes.children(os.getpid())]
    below = processes.descendants(shell.pid)
    assert [process.parent for process in below] == [shell.pid]
    me = processes.read_process(shell.pid)
    assert me is not None and me.alive and me.group == os.getpgid(0)
    assert not processes.has_exited(shell.pid)
    assert processes.kill_all([me, *below]) == []
    assert processes.has_exited(shell.pid)
    assert not me.alive
    assert shell.wait() == -9
    assert processes.has_exited(shell.pid)
    assert processes.read_process(shell.pid) is None
    assert processes.children(shell.pid) == []
    shell.stdout.close()


def test_a_name_may_hold_parentheses_and_spaces() -> None:
    script = (
        "from buffer.processes import *; name_process('a) b (c'); print(read_process(os.getpid()))"
    )
    shown = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert f"parent={os.getpid()}," in shown


def test_who_asks_after_its_parent_died_ends_too() -> None:
    script = "from buffer.processes import *; die_with_parent(1 << 22); print('alive')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
