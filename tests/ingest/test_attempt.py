"""Attempts: every evil plugin in a batch of fifty with one evil file, and what ends them early."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.attempt import attempt
from ingest.host_errors import PluginUnavailable
from ingest.plugin_host import PluginHost
from ingest.plugins.base import PluginConfigError
from ingest.verdicts import StopRequested, Verdict, VerdictKind
from tests.ingest import evil_plugins as evil

SUCCESS, FAILURE = VerdictKind.SUCCESS, VerdictKind.FAILURE
UNKNOWN, GIVE_BACK = VerdictKind.UNKNOWN, VerdictKind.GIVE_BACK

MODULE = "tests.ingest.evil_plugins"
EVIL_AT = 20

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


def batch(tmp_path: Path, count: int = 50, evil_at: int | None = EVIL_AT) -> list[str]:
    folder = tmp_path / "storage"
    folder.mkdir(exist_ok=True)
    names = [f"file{n:02}" if n != evil_at else "evil" for n in range(count)]
    return [str(folder / name) for name in names]


def kinds(verdicts: list[Verdict], paths: list[str]) -> list[VerdictKind]:
    """Return the kinds in the order of the paths; each path must have exactly one verdict."""
    assert Counter(v.path for v in verdicts) == Counter(paths)
    by_path = {v.path: v.kind for v in verdicts}
    return [by_path[path] for path in paths]


def evil_verdict(verdicts: list[Verdict]) -> Verdict:
    (found,) = (v for v in verdicts if "evil" in v.path)
    return found


def alone(kind: VerdictKind, count: int = 50, at: int = EVIL_AT) -> list[VerdictKind]:
    return [SUCCESS] * at + [kind] + [SUCCESS] * (count - at - 1)


WAYS = {
    evil.segfault: "SIGSEGV",
    evil.os_exit: "exited with status 3",
    evil.os_exit_zero: "exited with status 0",
    evil.sigkill: "SIGKILL",
    evil.abort: "SIGABRT",
    evil.kill_group: "SIGKILL",
    evil.hang_in_c: "gave no outcome within",
    evil.fork_and_die: "exited with status 4",
    evil.daemon_and_die: "exited with status 4",
    evil.write_into_pipe: "wrote into the pipe",
    evil.write_long_line: "line of more than",
    evil.close_everything: "exited with status 70",
    evil.close_and_hang: "closed the pipe",
}


@pytest.mark.parametrize("function", evil.DEADLY, ids=lambda f: f.__name__)
@pytest.mark.parametrize("variant", ["Contains", "InOrder", "Neither"])
def test_a_deadly_file_costs_itself(
    make_host: MakeHost, tmp_path: Path, function: Any, variant: str
) -> None:
    hangs = function is evil.hang_in_c
    count, at, timeout_s = (8, 6, 0.6) if hangs else (50, EVIL_AT, 30.0)
    paths = batch(tmp_path, count, at)
    host = make_host(evil.class_name(function, variant))

    verdicts = list(attempt(host, paths, timeout_s=timeout_s))

    found = kinds(verdicts, paths)
    if variant == "Contains":
        assert found == alone(UNKNOWN, count, at)
    elif variant == "InOrder":
        assert found == [SUCCESS] * at + [UNKNOWN] + [GIVE_BACK] * (count - at - 1)
    else:
        done = at - evil.LAG
        assert found == [SUCCESS] * done + [UNKNOWN] * (count - done)
    assert WAYS[function] in evil_verdict(verdicts).message
    pids = Path(paths[at] + ".pids")
    if pids.exists():
        wait_for(lambda: not is_running(int(pids.read_text())), 2.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SkipsAndDiesInOrder", [SUCCESS, UNKNOWN, SUCCESS, UNKNOWN, GIVE_BACK]),
        ("SkipsAndRaisesInOrder", [SUCCESS, UNKNOWN, SUCCESS, FAILURE, SUCCESS]),
    ],
)
def test_one_passed_over_does_not_stand_for_the_one_under_way(
    make_host: MakeHost, tmp_path: Path, name: str, expected: list[VerdictKind]
) -> None:
    paths = [str(tmp_path / "storage" / name) for name in ("a", "skipped", "b", "evil", "c")]

    verdicts = list(attempt(make_host(name), paths, timeout_s=30.0))

    assert kinds(verdicts, paths) == expected


EXCEPTIONS = {
    evil.sys_exit: "SystemExit: 5",
    evil.raises: "ValueError: cannot ingest",
    evil.keyboard_interrupt: "KeyboardInterrupt",
    evil.base_exception: "Unspeakable",
    evil.long_exception: "more characters",
    evil.unprintable_exception: "surrogate \\udcff escape \\x1b[31m",
    evil.leak_memory: "MemoryError",
    evil.generator_exit: "GeneratorExit",
    evil.endless_recursion: "RecursionError",
}


@pytest.mark.parametrize("function", evil.RAISING, ids=lambda f: f.__name__)
@pytest.mark.parametrize("variant", ["Contains", "InOrder", "Neither"])
def test_a_file_at_which_the_plugin_raises_fails_alone(
    make_host: MakeHost, tmp_path: Path, function: Any, variant: str
) -> None:
    paths = batch(tmp_path)
    host = make_host(evil.class_name(function, variant))

    verdicts = list(attempt(host, paths, timeout_s=30.0))

    found = kinds(verdicts, paths)
    if variant == "Neither":
        done = EVIL_AT - evil.LAG
        assert found == [SUCCESS] * done + [UNKNOWN] * (50 - done)
        assert "neither" in evil_verdict(verdicts).message
    else:
        assert found == alone(FAILURE)
    assert EXCEPTIONS[function] in evil_verdict(verdicts).message
    assert len(evil_verdict(verdicts).message) < 70_000
    assert host.alive


@pytest.mark.parametrize("function", evil.SILENT, ids=lambda f: f.__name__)
@pytest.mark.parametrize("variant", ["Contains", "InOrder", "Neither"])
def test_a_file_without_an_outcome_is_unknown(
    make_host: MakeHost,
    tmp_path: Path,
    function: Any,
    variant: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    paths = batch(tmp_path)
    host = make_host(evil.class_name(function, variant))

    verdicts = list(attempt(host, paths, timeout_s=30.0))

    assert kinds(verdicts, paths) == alone(UNKNOWN)
    assert "without an outcome" in evil_verdict(verdicts).message
    if function is not evil.yields_nothing:
        assert "ignored" in caplog.text
    assert len(caplog.text) < 100_000


@pytest.mark.parametrize("function", evil.HARMLESS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("variant", ["Contains", "InOrder", "Neither"])
def test_bad_manners_do_no_harm(
    make_host: MakeHost, tmp_path: Path, function: Any, variant: str
) -> None:
    paths = batch(tmp_path)
    host = make_host(evil.class_name(function, variant))

    verdicts = list(attempt(host, paths, timeout_s=30.0))

    assert kinds(verdicts, paths) == [SUCCESS] * 50
    message = evil_verdict(verdicts).message
    expected = {
        "yields_twice": "first",
        "mute_message": "(a message of type Mute that cannot be shown)",
        "object_message": "{1, 2}",
        "unprintable_message": "nul \\x00 surrogate \\udcff escape \\x1b[31m\nnext line",
    }
    if function is evil.long_message:
        assert len(message) <= 64 * 1024
        assert "more characters" in message
    else:
        assert message == expected.get(function.__name__, "")


def test_the_output_of_a_dying_plugin_is_part_of_its_cause(
    make_host: MakeHost, tmp_path: Path
) -> None:
    (verdict,) = attempt(make_host("OsExitNeither"), batch(tmp_path, 1, 0), timeout_s=30.0)

    assert verdict.kind is UNKNOWN
    assert verdict.message == (
        "the plugin's process exited with status 3\nlast output:\nabout to leave"
    )
    assert verdict.version == "evil 1"


def test_a_file_that_got_in_before_the_death_is_a_success(
    make_host: MakeHost, tmp_path: Path
) -> None:
    paths = batch(tmp_path)

    verdicts = list(attempt(make_host("EvilButIn"), paths, timeout_s=30.0))

    assert kinds(verdicts, paths) == [SUCCESS] * 50
    assert "in the target" in evil_verdict(verdicts).message


def test_no_file_is_given_to_the_plugin_more_often_than_needed(
    make_host: MakeHost, tmp_path: Path, target: Path
) -> None:
    paths = batch(tmp_path)

    list(attempt(make_host("Counting"), paths, timeout_s=30.0))

    calls = Counter((target / "calls").read_text().split())
    assert calls.pop("evil") == 2
    assert set(calls.values()) == {1}


def test_in_order_with_contains_goes_on_in_batches(
    make_host: MakeHost, tmp_path: Path, target: Path
) -> None:
    paths = batch(tmp_path)

    verdicts = list(attempt(make_host("InOrderAndContains"), paths, timeout_s=30.0))

    assert kinds(verdicts, paths) == alone(UNKNOWN)
    # Only the file that died was in doubt: after the batch, and again when it was alone.
    assert (target / "asked").read_text().split() == ["1", "1"]


def test_a_file_that_kills_the_question_too_is_found(make_host: MakeHost, tmp_path: Path) -> None:
    paths = batch(tmp_path)

    verdicts = list(attempt(make_host("ContainsDies"), paths, timeout_s=30.0))

    assert kinds(verdicts, paths) == alone(UNKNOWN)
    assert "exited with status 3" in evil_verdict(verdicts).message


@pytest.mark.parametrize("name", ["ContainsAlwaysRaises", "ContainsReturnsText"])
def test_a_question_that_always_fails_is_given_up(
    make_host: MakeHost, tmp_path: Path, target: Path, name: str
) -> None:
    paths = batch(tmp_path)

    verdicts = list(attempt(make_host(name), paths, timeout_s=30.0))

    done = EVIL_AT - evil.LAG
    assert kinds(verdicts, paths) == [SUCCESS] * done + [UNKNOWN] * (50 - done)


def test_a_question_that_hangs_ends(make_host: MakeHost, tmp_path: Path) -> None:
    paths = batch(tmp_path, 6, 0)

    verdicts = list(attempt(make_host("ContainsHangs"), paths, timeout_s=0.5))

    assert kinds(verdicts, paths) == [UNKNOWN] * 6


@pytest.mark.parametrize(
    ("name", "before", "at"),
    [("LoadsOnce", EVIL_AT - evil.LAG, GIVE_BACK), ("LoadsOnceInOrder", EVIL_AT, GIVE_BACK)],
)
def test_files_are_given_back_when_the_plugin_cannot_be_loaded_again(
    make_host: MakeHost, tmp_path: Path, name: str, before: int, at: VerdictKind
) -> None:
    paths = batch(tmp_path)
    verdicts: list[Verdict] = []

    with pytest.raises(PluginUnavailable, match="the target is down"):
        for verdict in attempt(make_host(name), paths, timeout_s=30.0):
            verdicts.append(verdict)

    assert kinds(verdicts, paths) == [SUCCESS] * before + [GIVE_BACK] * (50 - before)
    assert evil_verdict(verdicts).kind is at


def test_a_file_that_died_alone_is_unknown_even_if_nobody_can_be_asked(
    make_host: MakeHost, tmp_path: Path
) -> None:
    verdicts: list[Verdict] = []

    with pytest.raises(PluginUnavailable):
        for verdict in attempt(make_host("LoadsOnce"), batch(tmp_path, 1, 0), timeout_s=30.0):
            verdicts.append(verdict)

    assert [v.kind for v in verdicts] == [UNKNOWN]


@pytest.mark.parametrize(
    ("name", "error"),
    [("ConstructorConfigError", PluginConfigError), ("ConstructorRaises", PluginUnavailable)],
)
def test_a_plugin_that_cannot_be_loaded_charges_nobody(
    make_host: MakeHost, tmp_path: Path, name: str, error: type[Exception]
) -> None:
    paths = batch(tmp_path, 3)
    verdicts: list[Verdict] = []

    with pytest.raises(error):
        for verdict in attempt(make_host(name), paths, timeout_s=30.0):
            verdicts.append(verdict)

    assert kinds(verdicts, paths) == [GIVE_BACK] * 3
    assert verdicts[0].version == ""


def test_a_host_that_died_while_idle_is_started_again(make_host: MakeHost, tmp_path: Path) -> None:
    host = make_host("Counting")
    paths = batch(tmp_path, 2, None)
    assert kinds(list(attempt(host, paths, timeout_s=30.0)), paths) == [SUCCESS] * 2
    assert host.pid is not None

    os.kill(host.pid, 9)
    wait_for(lambda: not host.alive)

    assert kinds(list(attempt(host, paths, timeout_s=30.0)), paths) == [SUCCESS] * 2


class Fragile(PluginHost):
    """A host whose process is killed as soon as it has loaded, so many times."""

    deaths = 0

    def start(self, tick: Any = None) -> None:
        super().start(tick)
        if self.deaths and self.pid:
            self.deaths -= 1
            os.kill(self.pid, 9)
            wait_for(lambda: not self.alive)


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_a_death_before_the_plugin_was_called_blames_no_file(
    target: Path, tmp_path: Path, deaths: int
) -> None:
    host = Fragile(f"{MODULE}.Counting", {"target": str(target)})
    host.deaths = deaths
    paths = batch(tmp_path, 3, None)
    verdicts: list[Verdict] = []

    try:
        for verdict in attempt(host, paths, timeout_s=30.0):
            verdicts.append(verdict)
    except PluginUnavailable:
        assert deaths == 3
        assert kinds(verdicts, paths) == [GIVE_BACK] * 3
    else:
        assert kinds(verdicts, paths) == [SUCCESS] * 3
    finally:
        host.close()


def test_repeated_paths_and_no_paths(make_host: MakeHost, tmp_path: Path) -> None:
    paths = batch(tmp_path, 2, None)
    host = make_host("Counting")

    verdicts = list(attempt(host, paths * 3, timeout_s=30.0))

    assert kinds(verdicts, paths) == [SUCCESS] * 2
    assert list(attempt(host, [], timeout_s=30.0)) == []


def test_hostile_names_come_back_as_they_went(make_host: MakeHost, tmp_path: Path) -> None:
    folder = tmp_path / "storage"
    names = [
        b"\xff\xfe",
        "ä ö".encode(),
        b"a\nb",
        b'"quoted"\\',
        "\U0001f600".encode(),
        b"\x01\x7f",
    ]
    paths = [str(folder / os.fsdecode(name)) for name in names]

    verdicts = list(attempt(make_host("Counting"), paths, timeout_s=30.0))

    assert kinds(verdicts, paths) == [SUCCESS] * len(paths)


class Stop:
    """A tick that raises when something has been there for a while."""

    def __init__(self, path: Path, error: Exception) -> None:
        self.path = path
        self.error = error
        self.calls = 0
        self.is_there = False

    def __call__(self) -> None:
        self.calls += 1
        if self.is_there:
            raise self.error
        # Only the next time: what the plugin told before has been read by then.
        self.is_there = self.path.exists()


def at_once() -> None:
    """A tick of a worker whose time is up already."""
    raise StopRequested(time_left_s=20.0)


def stuck_batch(tmp_path: Path) -> list[str]:
    return [str(tmp_path / "storage" / name) for name in ("a", "b", "stuck", "c", "d")]


@pytest.mark.parametrize(
    ("name", "time_left_s", "expected"),
    [
        ("SlowNeither", 0.0, [UNKNOWN] * 5),
        ("SlowNeither", 20.0, [UNKNOWN] * 5),
        ("SlowInOrderOnly", 20.0, [SUCCESS, SUCCESS, UNKNOWN, GIVE_BACK, GIVE_BACK]),
        ("SlowInOrder", 0.0, [SUCCESS, SUCCESS, UNKNOWN, GIVE_BACK, GIVE_BACK]),
        ("SlowInOrder", 20.0, [SUCCESS, SUCCESS, GIVE_BACK, GIVE_BACK, GIVE_BACK]),
        ("Slow", 0.0, [UNKNOWN] * 5),
        ("Slow", 20.0, [SUCCESS, SUCCESS, GIVE_BACK, GIVE_BACK, GIVE_BACK]),
        ("SlowAndCannotTell", 1.0, [UNKNOWN] * 5),
    ],
)
def test_stop(
    make_host: MakeHost,
    tmp_path: Path,
    target: Path,
    name: str,
    time_left_s: float,
    expected: list[VerdictKind],
) -> None:
    paths = stuck_batch(tmp_path)
    host = make_host(name)
    tick = Stop(target / "is-stuck", StopRequested(time_left_s=time_left_s))
    started = time.monotonic()

    verdicts = list(attempt(host, paths, timeout_s=600.0, tick=tick))

    assert kinds(verdicts, paths) == expected
    assert time.monotonic() - started < 20
    for verdict in verdicts:
        if verdict.kind is UNKNOWN:
            assert "operator's stop interrupted" in verdict.message


@pytest.mark.parametrize(
    ("name", "raised"),
    [("SlowInOrderOnly", StopRequested()), ("SpeaksOutOfTurnInOrder", None)],
)
def test_what_the_plugin_told_and_nobody_had_read_counts(
    make_host: MakeHost, tmp_path: Path, target: Path, name: str, raised: Exception | None
) -> None:
    paths = [str(tmp_path / "storage" / name) for name in ("slow", "b", "stuck", "c", "d")]
    host = make_host(name)
    host.start()
    calls = itertools.count()

    def tick() -> None:
        # The first call comes before the plugin is asked for anything.
        if next(calls):
            wait_for((target / "is-stuck").exists, 10.0)
            if raised:
                raise raised

    verdicts = list(attempt(host, paths, timeout_s=600.0, tick=tick))

    assert kinds(verdicts, paths) == [SUCCESS, SUCCESS, UNKNOWN, GIVE_BACK, GIVE_BACK]


def test_stop_before_the_plugin_is_loaded_gives_everything_back(
    make_host: MakeHost, tmp_path: Path
) -> None:
    paths = batch(tmp_path, 3)
    host = make_host("ConstructorHangs")
    tick = Stop(Path("/"), StopRequested())

    verdicts = list(attempt(host, paths, timeout_s=600.0, tick=tick))

    assert kinds(verdicts, paths) == [GIVE_BACK] * 3
    assert not host.alive


def test_stop_before_the_plugin_is_called_gives_everything_back(
    make_host: MakeHost, tmp_path: Path
) -> None:
    paths = batch(tmp_path, 3)
    host = make_host("SlowNeither")
    host.start()

    verdicts = list(attempt(host, paths, timeout_s=600.0, tick=at_once))

    assert kinds(verdicts, paths) == [GIVE_BACK] * 3


def test_another_exception_of_the_tick_goes_through_and_kills_the_host(
    make_host: MakeHost, tmp_path: Path, target: Path
) -> None:
    host = make_host("SlowInOrder")
    verdicts: list[Verdict] = []
    pid = 0

    with pytest.raises(LookupError, match="lease lost"):
        tick = Stop(target / "is-stuck", LookupError("lease lost"))
        for verdict in attempt(host, stuck_batch(tmp_path), timeout_s=600.0, tick=tick):
            verdicts.append(verdict)
            pid = host.pid or 0

    assert [v.kind for v in verdicts] == [SUCCESS] * 2
    assert pid
    wait_for(lambda: not is_running(pid), 2.0)


def test_verdicts_stream_and_abandoning_them_kills_the_host(
    make_host: MakeHost, tmp_path: Path
) -> None:
    host = make_host("SlowInOrder")
    verdicts = attempt(host, stuck_batch(tmp_path), timeout_s=600.0)

    assert next(verdicts).kind is SUCCESS
    pid = host.pid
    assert pid is not None
    verdicts.close()  # type: ignore[attr-defined]

    wait_for(lambda: not is_running(pid), 2.0)
    assert not host.alive


def test_ticks_come_regularly_and_durations_add_up(make_host: MakeHost, tmp_path: Path) -> None:
    paths = [str(tmp_path / "storage" / f"slow{n}") for n in range(3)]
    tick = Stop(tmp_path / "never", StopRequested())
    host = make_host("SlowInOrder")
    host.start()

    verdicts = list(attempt(host, paths, timeout_s=30.0, tick=tick))

    assert tick.calls >= 3
    # Each is counted from the verdict before: on a busy machine one is longer, the next shorter.
    assert all(0 < v.duration_s < 3 for v in verdicts)
    assert sum(v.duration_s for v in verdicts) >= 1.5


def test_in_order_each_file_has_the_deadline_for_itself(
    make_host: MakeHost, tmp_path: Path
) -> None:
    """Five files of half a second each pass with a deadline of two seconds."""
    paths = [str(tmp_path / "storage" / f"slow{n}") for n in range(5)]

    verdicts = list(attempt(make_host("SlowInOrder"), paths, timeout_s=2.0))

    assert kinds(verdicts, paths) == [SUCCESS] * 5


def test_a_death_after_the_last_outcome_is_only_logged(
    make_host: MakeHost, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = batch(tmp_path, 1, None)
    host = make_host("RaisesAtTheEnd")

    with caplog.at_level(logging.WARNING):
        verdicts = list(attempt(host, paths, timeout_s=30.0))

    assert kinds(verdicts, paths) == [SUCCESS]
    assert "after the last outcome" in caplog.text


def is_running(pid: int) -> bool:
    """Return whether a process lives; one that only waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
