"""A command with workers, for test_workers.py: does what the JSON files in its inbox say.

Run as ``python workers_command.py DIRECTORY OPTIONS`` with DATABASE_URL (and Q_BROKER_URL) set.
Sessions write a line to DIRECTORY/log.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(os.environ.get("WORKERS_DIR", "."))

GRANDCHILD = """
import ctypes, os, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if sys.argv[1] == "forking":  # what it forks has no such wish
    print(subprocess.Popen(["sleep", "300"]).pid, flush=True)
else:
    print(os.getpid(), flush=True)
time.sleep(300)
"""


def note(*words: object) -> None:
    with open(HERE / "log", "a") as log:
        log.write(" ".join(str(word) for word in (*words, os.getpid())) + "\n")


def quick(word: str) -> None:
    note("ran", word)


def frozen(word: str) -> None:
    """Say whether the collector of garbage leaves out what was imported."""
    note("left out" if gc.get_freeze_count() > 1000 else "goes through all", word)


def sleepy(word: str, seconds: float) -> None:
    """Work until the time is up or the workers stop, as a good session does."""
    from buffer.workers import beat, stopping

    note("began", word)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stopping():
        beat()
        time.sleep(0.02)
    note("gave back" if stopping() else "ended", word)


def hung(word: str) -> None:
    """Hang in C: no signal handler of Python's ever gets its turn."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    note("began", word)
    libc = ctypes.PyDLL(None)
    while True:
        libc.sleep(100)


def fails(word: str) -> None:
    note("began", word)
    raise ValueError("on purpose")


def with_child(word: str, kind: str) -> None:
    """Start a process in a session of its own, as a plugin host is, and wait for it."""
    child = subprocess.Popen(
        [sys.executable, "-c", GRANDCHILD, kind],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    note("child", word, int(child.stdout.readline()))
    child.wait()


def main() -> None:
    import django

    django.setup()
    from django.db import connection

    from buffer.signals import StopSignals
    from buffer.wakeups import QueueUnavailable, WorkerTimeouts
    from buffer.workers import Workers, stopping

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(process)d %(name)s %(message)s"
    )
    options = json.loads(sys.argv[2])
    grace_s = options.pop("grace_s", 5)
    if "timeouts" in options:
        options["timeouts"] = WorkerTimeouts(*options["timeouts"])
    connection.ensure_connection()  # start() must cope with that
    inbox = HERE / "inbox"
    with StopSignals() as stop:
        workers = Workers("probe", options.pop("count"), session_timeout_s=30, **options)
        workers.wakeups.purge()
        workers.start()
        assert not stopping()
        while not stop.requested:
            findings = workers.check()
            if findings:
                note("check:", findings)
            for order in sorted(inbox.iterdir()):
                if order.suffix == ".json":
                    func, *args = json.loads(order.read_text())
                    try:
                        workers.wakeups.send(f"workers_command.{func}", *args)
                    except QueueUnavailable as error:
                        note("unavailable", args[0], error)
                    else:
                        order.unlink()
            status = {"pids": workers.pids(), "idle": workers.idle(), "restarts": workers.restarts}
            (HERE / "status.new").write_text(json.dumps(status))
            (HERE / "status.new").rename(HERE / "status")
            stop.wait(0.1)
        note("stopped", workers.stop(grace_s), stop.signum.name if stop.signum else "")


if __name__ == "__main__":
    os.environ["WORKERS_DIR"] = str(HERE)
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "endpoint_site.settings")
    main()
