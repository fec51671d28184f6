"""The plugin host: loading, the child's surroundings, and that nothing is left of it."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest import host_child, host_protocol
from ingest.host_end import kill_marked
from ingest.host_environment import HIDDEN_VARIABLES
from ingest.host_errors import HostDied, IngestRaised, PluginUnavailable
from ingest.host_process import HostProcess, ProcessGone
from ingest.plugin_host import PluginHost
from ingest.plugins.base import Outcome, PluginConfigError
from tests.ingest.test_attempt import is_running, wait_for

MODULE = "tests.ingest.evil_plugins"

MakeHost = Callable[..., PluginHost]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.fixture
def make_host(target: Path) -> Iterator[MakeHost]:
    hosts: list[PluginHost] = []

    def make(name: str, **kwargs: Any) -> PluginHost:
        host = PluginHost(f"{MODULE}.{name}", {"target": str(target)}, **kwargs)
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.close()


def open_fds() -> list[str]:
    """Return what this process's descriptors point to."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue  # the one of the listing itself
    return found


def test_load_tells_what_the_plugin_is(make_host: MakeHost) -> None:
    host = make_host("InOrderAndContains")
    assert not host.alive
    assert host.pid is None

    host.start()
    pid = host.pid
    host.start()

    assert host.alive
    assert host.pid == pid
    assert (host.version, host.in_order, host.has_contains) == ("evil 1", True, True)


def test_a_version_need_not_be_text(make_host: MakeHost) -> None:
    host = make_host("VersionNotText")
    host.start()
    assert host.version == "(1, 2)"


def test_null_ingest_through_the_host() -> None:
    host = PluginHost("ingest.plugins.null.NullIngest", {})
    host.start()
    outcomes = list(host.ingest(["/a", "/b"], timeout_s=10.0))
    host.close()

    assert outcomes == [Outcome.success("/a"), Outcome.success("/b")]
    assert (host.version, host.in_order, host.has_contains) == ("1.0.0", True, False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ConstructorConfigError", "plugin.config.colour: expected a colour, say red"),
        ("NoMethods", "has no method version and no method ingest"),
        ("not_a_class", "found a int"),
        ("Missing", "found nothing"),
    ],
)
def test_bad_configuration(make_host: MakeHost, name: str, text: str) -> None:
    host = make_host(name)
    with pytest.raises(PluginConfigError, match=text):
        host.start()
    assert not host.alive


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ConstructorRaises", "ConnectionError: the target is down"),
        ("ConstructorBaseException", "Unspeakable"),
        ("ConstructorSysExit", "SystemExit: 2"),
        ("ConstructorOsExit", "exited with status 9\nlast output:\nfamous last words"),
        ("ConstructorSegfault", "SIGSEGV"),
        ("ConstructorHangs", "did not load within 1 s and was killed"),
        ("ConstructorSpeaksOutOfTurn", "wrote into the pipe"),
        ("VersionRaises", "RuntimeError: no version"),
    ],
)
def test_not_available_now(make_host: MakeHost, name: str, text: str) -> None:
    host = make_host(name, load_timeout_s=1.0 if name == "ConstructorHangs" else 60.0)
    with pytest.raises(PluginUnavailable) as caught:
        host.start()
    assert text in str(caught.value)
    assert not host.alive


def test_a_plugin_that_cannot_be_imported(make_host: MakeHost) -> None:
    host = PluginHost("no.such.module.Plugin", {})
    with pytest.raises(PluginConfigError, match="No module named 'no'"):
        host.start()


def test_nothing_is_left_after_many_deaths(make_host: MakeHost, tmp_path: Path) -> None:
    host = make_host("OsExitNeither")

    def die() -> None:
        host.start()
        with pytest.raises(HostDied) as died:
            list(host.ingest([str(tmp_path / "evil")], timeout_s=30.0))
        assert died.value.begun

    die()
    before, threads = sorted(open_fds()), threading.active_count()
    for _ in range(25):
        die()
    assert len(open_fds()) == len(before)
    assert threading.active_count() == threads


def test_nothing_is_left_after_failed_loads(make_host: MakeHost) -> None:
    host = make_host("ConstructorRaises")
    before = len(open_fds())
    for _ in range(5):
        with pytest.raises(PluginUnavailable):
            host.start()
    assert len(open_fds()) == before


def test_no_process_can_be_started(make_host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    before = len(open_fds())
    with pytest.raises(PluginUnavailable, match="no process for the plugin"):
        make_host("Counting").start()
    assert len(open_fds()) == before


def test_the_child_s_surroundings(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in HIDDEN_VARIABLES:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("PYTHONPATH", "/some/where")
    monkeypatch.chdir(tmp_path)
    old = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        host = make_host("Environment")
        host.start()
    finally:
        signal.signal(signal.SIGTERM, old)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})

    (outcome,) = host.ingest(["/file"], timeout_s=10.0)

    assert ast.literal_eval(outcome.message) == {
        "hidden": [],
        "PYTHONPATH": "/some/where",
        "oom": "1000",
        "django": False,
        "cwd": str(tmp_path),
        "sigint": True,
        "sigterm": True,
        "blocked": 0,
        "session": True,
    }


def test_what_the_parent_can_import_the_child_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "third_party.py").write_text(
        "class Plugin:\n"
        "    def __init__(self, config): self.note = config['note']\n"
        "    def version(self): return '7'\n"
        "    def ingest(self, paths):\n"
        "        from ingest.plugins.base import Outcome\n"
        "        return [Outcome.success(path, self.note) for path in paths]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    monkeypatch.syspath_prepend("")

    host = PluginHost("third_party.Plugin", {"note": Path("/a/path")})
    host.start()
    outcomes = list(host.ingest(["/x"], timeout_s=10.0))
    host.close()

    assert outcomes == [Outcome.success("/x", "/a/path")]


def test_outcomes_are_streamed(make_host: MakeHost) -> None:
    host = make_host("SlowInOrder")
    host.start()
    outcomes = host.ingest(["/a", "/stuck"], timeout_s=3.0)
    assert next(outcomes).path == "/a"
    assert host.alive
    with pytest.raises(HostDied, match="gave no outcome within 3 s"):
        next(outcomes)


def test_contains(make_host: MakeHost, target: Path) -> None:
    host = make_host("Counting")
    host.start()
    (target / "here").touch()

    assert host.contains(["/x/here", "/x/there"], timeout_s=10.0) == {"/x/here"}
    assert host.contains([], timeout_s=10.0) == set()
    assert list(host.ingest([], timeout_s=10.0)) == []


def test_a_raising_plugin_leaves_the_host_alive(make_host: MakeHost) -> None:
    host = make_host("SysExitInOrder")
    host.start()
    pid = host.pid

    with pytest.raises(IngestRaised) as raised:
        list(host.ingest(["/evil"], timeout_s=10.0))

    assert raised.value.exit
    assert raised.value.cause == "SystemExit: 5"
    assert host.pid == pid
    assert len(list(host.ingest(["/good"], timeout_s=10.0))) == 1


def test_calls_without_a_process(make_host: MakeHost) -> None:
    host = make_host("Counting")
    with pytest.raises(HostDied) as died:
        list(host.ingest(["/a"], timeout_s=10.0))
    assert not died.value.begun
    host.close()


def test_a_tick_that_raises_while_loading_kills_the_host(make_host: MakeHost) -> None:
    host = make_host("ConstructorHangs")
    pids: list[int | None] = []

    def tick() -> None:
        pids.append(host.pid)
        if len(pids) > 2:
            raise LookupError

    with pytest.raises(LookupError):
        host.start(tick)
    assert pids[0] is not None
    wait_for(lambda: not is_running(pids[0]), 2.0)


def test_close_ends_stubborn_plugins_and_daemons(make_host: MakeHost, target: Path) -> None:
    host = make_host("Stubborn")
    host.start()
    pid = host.pid
    assert pid is not None
    started = time.monotonic()
    host.close()
    wait_for(lambda: not is_running(pid), 2.0)
    assert time.monotonic() - started < 6

    host = make_host("Forking")
    host.start()
    daemon = int((target / "forked.pids").read_text())
    assert is_running(daemon)
    host.close()
    wait_for(lambda: not is_running(daemon), 2.0)


def test_close_is_quick_for_well_behaved_plugins(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostProcess.close, "__defaults__", (30.0,))
    host = make_host("Counting")
    host.start()
    started = time.monotonic()
    host.close()
    host.close()
    assert time.monotonic() - started < 5


def test_the_child_dies_with_its_parent(target: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from ingest.plugin_host import PluginHost\n"
        f"host = PluginHost('{MODULE}.Counting', {{'target': {str(target)!r}}})\n"
        "host.start()\n"
        "print(host.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=child_environment()
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
        wait_for(lambda: not is_running(pid))


def test_an_orphan_leaves_at_once() -> None:
    """The parent that the child was made by is not its parent any more."""
    done = subprocess.run(
        [sys.executable, "-m", "ingest.host_child", "0", "1", "1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=child_environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 1


def child_environment() -> dict[str, str]:
    root = str(Path(host_child.__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": root}


def test_without_pidfds_death_is_noticed_too(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError("not here")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    host = make_host("ForkAndDieNeither")
    host.start()
    with pytest.raises(HostDied, match="exited with status 4"):
        list(host.ingest([os.path.join(host.config["target"], "evil")], timeout_s=30.0))


def test_a_stopped_child_meets_its_deadline(make_host: MakeHost) -> None:
    """A child that does not even read: a large command must not block the parent."""
    host = make_host("Counting")
    host.start()
    assert host.pid is not None
    os.kill(host.pid, signal.SIGSTOP)
    paths = [f"/{n:0200}" for n in range(2000)]
    with pytest.raises(HostDied, match="gave no outcome within 1 s") as died:
        list(host.ingest(paths, timeout_s=1 / 2000))
    assert not died.value.begun


def test_large_batches(make_host: MakeHost, target: Path) -> None:
    host = PluginHost("ingest.plugins.null.NullIngest", {})
    host.start()
    paths = [f"/{n:0200}" for n in range(5000)]
    assert [o.path for o in host.ingest(paths, timeout_s=60.0)] == paths
    host.close()


def test_output_is_logged_for_those_who_debug(
    make_host: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    host = make_host("PrintToStdoutInOrder")
    with caplog.at_level(logging.DEBUG, logger="ingest.host_process"):
        host.start()
        list(host.ingest(["/evil"], timeout_s=10.0))
        host.close()
    assert '{"type": "done"}' in caplog.text


def test_a_process_reaped_by_somebody_else() -> None:
    process = HostProcess()
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)
    assert process.exited()
    process.send({"type": "ingest", "paths": []})
    with pytest.raises(ProcessGone):
        process.receive(time.monotonic() + 5, None)
    process.end()
    assert process.end("again") == "again"
    assert process.exited()
    process.close()


def test_kill_marked_spares_the_others() -> None:
    env = {**os.environ, host_protocol.TOKEN_VARIABLE: "mine"}
    with subprocess.Popen(["sleep", "100"], env=env) as marked:
        try:
            kill_marked("another")
            assert marked.poll() is None
            kill_marked("mine")
            assert marked.wait(timeout=10) == -signal.SIGKILL
        finally:
            marked.kill()


# The protocol and the child's side, in this process.


def talk(*commands: dict[str, Any]) -> list[dict[str, Any]]:
    """Let a session of the child's side obey commands; return what it says."""
    lines: list[bytes] = []
    path = list(sys.path)
    try:
        session = host_child.Session(lines.append)
        session.serve(io.BytesIO(b"".join(map(host_protocol.encode, commands))))
    finally:
        sys.path[:] = path
    return [host_protocol.decode(line) for line in lines]


def load(name: str, target: Path) -> dict[str, Any]:
    config = {"target": str(target)}
    return {"type": "load", "plugin": f"{MODULE}.{name}", "config": config, "path": sys.path}


def test_a_session(target: Path) -> None:
    said = talk(
        load("InOrderAndContains", target),
        {"type": "ingest", "paths": ["/a", "/b"]},
        {"type": "contains", "paths": ["/a", "/c"]},
        {"type": "close"},
        {"type": "ingest", "paths": ["/never"]},
    )
    success = {"ok": True, "message": "", "transient": False}
    assert said == [
        {"type": "loaded", "version": "evil 1", "in_order": True, "contains": True},
        {"type": "begun"},
        {"type": "outcome", "path": "/a", **success},
        {"type": "outcome", "path": "/b", **success},
        {"type": "done"},
        {"type": "contained", "paths": ["/a"]},
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ConstructorConfigError", "config_error"), ("ConstructorSysExit", "unavailable")],
)
def test_a_session_that_cannot_load(target: Path, name: str, kind: str) -> None:
    (message,) = talk(load(name, target))
    assert message["type"] == kind


@pytest.mark.parametrize("name", ["RaisesNeither", "SysExitNeither", "BaseExceptionNeither"])
def test_a_session_reports_whatever_is_raised(target: Path, name: str) -> None:
    said = talk(load(name, target), {"type": "ingest", "paths": ["/evil"]})
    assert said[-1]["type"] == "raised"
    assert said[-1]["exit"] is (name == "SysExitNeither")


def test_a_session_reports_junk_sparingly(target: Path) -> None:
    said = talk(load("YieldsJunkNeither", target), {"type": "ingest", "paths": ["/evil"]})
    assert [m["type"] for m in said] == ["loaded", "begun"] + ["junk"] * 20 + ["done"]
    text = "\n".join(m["message"] for m in said[2:-1])
    for part in ("yielded None", "yielded 7", "a Mute", "expected a boolean, got 'yes'"):
        assert part in text


def test_messages_of_any_kind_become_text(target: Path) -> None:
    names = ["MuteMessageNeither", "LongMessageNeither"]
    for name in names:
        said = talk(load(name, target), {"type": "ingest", "paths": ["/evil"]})
        assert said[2]["ok"] is True
        assert len(host_protocol.encode(said[2])) < host_protocol.MAX_LINE


def test_transient_and_odd_messages() -> None:
    fields = host_child._fields(Outcome.failure("/a", "busy", transient=True), {"/a"})
    assert fields == {"path": "/a", "ok": False, "message": "busy", "transient": True}
    error: Any = OSError("full")
    assert host_child._fields(Outcome("/a", False, error), {"/a"})["message"] == "OSError: full"
    nothing: Any = None
    assert host_child._fields(Outcome("/a", True, nothing), {"/a"})["message"] == ""


@pytest.mark.parametrize("line", [b"[]", b"{}", b'{"type": 1}', b"\xff", b"nonsense"])
def test_lines_that_are_no_messages(line: bytes) -> None:
    with pytest.raises(ValueError):
        host_protocol.decode(line)


def test_any_path_survives_the_protocol() -> None:
    path = os.fsdecode(b'/\xff\x00\n"\\ \xc3\xa4\xf0\x9f\x98\x80')
    line = host_protocol.encode({"type": "ingest", "paths": [path]})
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert host_protocol.decode(line)["paths"] == [path]
    assert json.loads(line)["paths"] == [path]


def test_descriptions_name_the_causes() -> None:
    try:
        try:
            raise OSError("no space")
        except OSError as error:
            raise RuntimeError from error
    except RuntimeError as error:
        assert host_protocol.describe(error) == "RuntimeError; caused by OSError: no space"


def test_printable_is_for_databases_and_terminals() -> None:
    assert host_protocol.printable("plain ä") == "plain ä"
    assert host_protocol.printable("a\tb\nc") == "a\tb\nc"
    assert host_protocol.printable("\x00\u202e\udc80\U000e0001") == (
        "\\x00\\u202e\\udc80\\U000e0001"
    )


def test_shorten_says_how_much_is_missing() -> None:
    text = host_protocol.shorten("x" * 1000, 100)
    assert len(text) <= 100
    assert "[960 more characters]" in text
