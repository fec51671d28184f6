"""Plugins that do what no plugin should, each in three variants.

A file whose name contains ``evil`` triggers the behaviour; every other file is "ingested" by
touching a file of its name in ``config["target"]``.  ``SegfaultContains``, ``SegfaultInOrder``
and ``SegfaultNeither``, for instance, are made from the function `segfault`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from ingest.plugins.base import Outcome, PluginConfigError

#: Plugins that do not work in order have this many files under way.
LAG = 5


class Unspeakable(BaseException):
    """An exception that ``except Exception`` does not catch and that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Mute:
    """An object that cannot be turned into text or JSON."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Base:
    in_order = False

    def __init__(self, config: dict[str, Any]) -> None:
        self.target = Path(config["target"])
        self.bad: Callable[[str], Any] = type(self).bad_function  # type: ignore[attr-defined]

    def version(self) -> str:
        return "evil 1"

    def one(self, path: str) -> list[Any]:
        with (self.target / "calls").open("a", errors="surrogateescape") as log:
            log.write(os.path.basename(path) + "\n")
        if "evil" in path:
            return list(self.bad(path))
        (self.target / os.path.basename(path)).touch()
        return [Outcome.success(path)]

    def ingest(self, paths: list[str]) -> Iterator[Any]:
        late: deque[Any] = deque()
        for path in paths:
            late.extend(self.one(path))
            while len(late) > (0 if self.in_order else LAG):
                yield late.popleft()
        yield from late


def here(target: Path, paths: list[str]) -> set[str]:
    return {path for path in paths if (target / os.path.basename(path)).exists()}


def segfault(path: str) -> list[Any]:
    ctypes.string_at(0)
    return []


def os_exit(path: str) -> list[Any]:
    print("about to leave", flush=True)
    os._exit(3)


def os_exit_zero(path: str) -> list[Any]:
    os._exit(0)


def sigkill(path: str) -> list[Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def abort(path: str) -> list[Any]:
    os.abort()


def kill_group(path: str) -> list[Any]:
    os.killpg(0, signal.SIGKILL)
    return []


def hang_in_c(path: str) -> list[Any]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    ctypes.PyDLL(None).sleep(10_000)  # does not release the GIL
    return []


def stop_itself(path: str) -> list[Any]:
    os.kill(os.getpid(), signal.SIGSTOP)
    return []


def hopeless_regex(path: str) -> list[Any]:
    re.match(r"(a+)+$", "a" * 64 + "!")  # holds the GIL for longer than the sun will shine
    return []


def deadlock(path: str) -> list[Any]:
    """Two threads that wait for each other's lock."""
    one, other, both = threading.Lock(), threading.Lock(), threading.Barrier(2)

    def take(first: threading.Lock, second: threading.Lock) -> None:
        with first:
            both.wait()
            second.acquire()

    threading.Thread(target=take, args=(one, other)).start()
    take(other, one)
    return []


def too_late(path: str) -> list[Any]:
    time.sleep(30)
    return [Outcome.success(path)]


def _sleeper(path: str, leave_group: bool) -> None:
    """Fork a process that holds every pipe of the host open."""
    pid = os.fork()
    if pid == 0:
        if leave_group:
            os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(10_000)
    Path(path + ".pids").write_text(str(pid))


def fork_and_die(path: str) -> list[Any]:
    _sleeper(path, leave_group=False)
    os._exit(4)


def daemon_and_die(path: str) -> list[Any]:
    _sleeper(path, leave_group=True)
    time.sleep(0.1)
    os._exit(4)


def open_descriptors() -> list[int]:
    """All but the standard ones; a long run of tests gives high numbers to the host's pipes."""
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2]


def write_junk() -> None:
    for fd in open_descriptors():
        with contextlib.suppress(OSError):
            os.write(fd, b"this is no JSON\n")


def write_into_pipe(path: str) -> list[Any]:
    write_junk()
    time.sleep(10_000)
    return []


def write_long_line(path: str) -> list[Any]:
    for fd in open_descriptors():
        try:
            for _ in range(40):
                os.write(fd, b"x" * 65536)
        except OSError:
            continue
    time.sleep(10_000)
    return []


def close_everything(path: str) -> list[Any]:
    os.closerange(3, 4096)
    return [Outcome.success(path)]


def close_and_hang(path: str) -> list[Any]:
    os.closerange(3, 4096)
    time.sleep(10_000)
    return []


def sys_exit(path: str) -> list[Any]:
    sys.exit(5)


def raises(path: str) -> list[Any]:
    try:
        raise OSError("the target said no")
    except OSError as error:
        raise ValueError(f"cannot ingest {path}") from error


def keyboard_interrupt(path: str) -> list[Any]:
    raise KeyboardInterrupt


def base_exception(path: str) -> list[Any]:
    raise Unspeakable


def long_exception(path: str) -> list[Any]:
    raise ValueError("\U0001f600" * 1_000_000)


def unprintable_exception(path: str) -> list[Any]:
    raise ValueError("nul \x00 surrogate \udcff escape \x1b[31m\nnext line")


def leak_memory(path: str) -> list[Any]:
    """Take memory until there is no more; a limit of its own stands for the machine's."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), hard))
    kept = []
    while True:
        kept.append(bytearray(1 << 20))


def generator_exit(path: str) -> list[Any]:
    raise GeneratorExit


def endless_recursion(path: str) -> list[Any]:
    return endless_recursion(path) + endless_recursion(path)


def yields_junk(path: str) -> list[Any]:
    return [
        None,
        7,
        {"path": path, "ok": True},
        (path, True),
        Mute(),
        Outcome(path, "yes"),  # type: ignore[arg-type]
        Outcome(7, True),  # type: ignore[arg-type]
        Outcome(b"\xff", True),  # type: ignore[arg-type]
        Outcome(None, Mute()),  # type: ignore[arg-type]
    ] * 100


def yields_nothing(path: str) -> list[Any]:
    return []


def unknown_path(path: str) -> list[Any]:
    return [Outcome.success("/nowhere/else"), Outcome.failure("x" * 3_000_000, "?")]


def yields_twice(path: str) -> list[Any]:
    return [Outcome.success(path, "first"), Outcome.failure(path, "second")]


def flood_stderr(path: str) -> list[Any]:
    for _ in range(200):
        os.write(2, b"noise " * 10_000)
    return [Outcome.success(path)]


def print_to_stdout(path: str) -> list[Any]:
    print('{"type": "done"}', flush=True)
    os.write(1, b'{"type": "outcome"}\n')
    return [Outcome.success(path)]


def read_stdin(path: str) -> list[Any]:
    assert sys.stdin.read() == ""
    return [Outcome.success(path)]


def fork_twice_returning(path: str) -> list[Any]:
    """Both processes return from here and go on, as after a careless fork."""
    os.fork()
    return [Outcome.success(path)]


def mute_message(path: str) -> list[Any]:
    return [Outcome(path, True, Mute())]  # type: ignore[arg-type]


def object_message(path: str) -> list[Any]:
    return [Outcome(path, True, {1, 2})]  # type: ignore[arg-type]


def long_message(path: str) -> list[Any]:
    return [Outcome.success(path, "\U0001f600" * 1_000_000)]


def unprintable_message(path: str) -> list[Any]:
    return [Outcome.success(path, "nul \x00 surrogate \udcff escape \x1b[31m\nnext line")]


def close_standard_streams(path: str) -> list[Any]:
    for descriptor in range(3):
        os.close(descriptor)
    return [Outcome.success(path)]


def change_surroundings(path: str) -> list[Any]:
    """Change what every process has of its own, and one may take for somebody else's."""
    os.chdir("/")
    os.umask(0o777)
    os.environ.clear()
    sys.path.clear()
    os.nice(5)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    return [Outcome.success(path)]


def leave_threads(path: str) -> list[Any]:
    for _ in range(20):
        threading.Thread(target=time.sleep, args=(10_000,)).start()
    return [Outcome.success(path)]


#: The process ends (or has to be ended).
DEADLY = [
    segfault,
    os_exit,
    os_exit_zero,
    sigkill,
    abort,
    kill_group,
    hang_in_c,
    fork_and_die,
    daemon_and_die,
    write_into_pipe,
    write_long_line,
    close_everything,
    close_and_hang,
]
#: Nothing comes, and the process has to be ended at the deadline.
HANGING = [hang_in_c, stop_itself, hopeless_regex, deadlock, too_late]
#: The call ends with an exception.
RAISING = [
    sys_exit,
    raises,
    keyboard_interrupt,
    base_exception,
    long_exception,
    unprintable_exception,
    leak_memory,
    generator_exit,
    endless_recursion,
]
#: The call ends as it should, without an outcome for the evil file.
SILENT = [yields_junk, yields_nothing, unknown_path]
#: Bad manners, but the file has its outcome.
HARMLESS = [
    yields_twice,
    flood_stderr,
    print_to_stdout,
    read_stdin,
    fork_twice_returning,
    mute_message,
    object_message,
    long_message,
    unprintable_message,
    close_standard_streams,
    change_surroundings,
    leave_threads,
]
ALL = list(dict.fromkeys([*DEADLY, *HANGING, *RAISING, *SILENT, *HARMLESS]))


def class_name(function: Callable[[str], Any], variant: str) -> str:
    return "".join(part.title() for part in function.__name__.split("_")) + variant


def _define() -> None:
    for function in ALL:
        common = {"bad_function": staticmethod(function), "__module__": __name__}
        variants: dict[str, dict[str, Any]] = {
            "Neither": {},
            "InOrder": {"in_order": True},
            "Contains": {"contains": lambda self, paths: here(self.target, paths)},
        }
        for variant, extra in variants.items():
            name = class_name(function, variant)
            globals()[name] = type(name, (Base,), {**common, **extra})


_define()


class Mixed(Base):
    """Does to each file what its name says: ``evil-FUNCTION-N``."""

    in_order = True

    @staticmethod
    def bad_function(path: str) -> list[Any]:
        name = os.path.basename(path).split("-")[1]
        return list(next(function for function in ALL if function.__name__ == name)(path))


class Counting(Base):
    """Behaves; logs the calls of `contains` and can be told to misbehave there."""

    bad_function = staticmethod(os_exit)

    def contains(self, paths: list[str]) -> Collection[str]:
        with (self.target / "asked").open("a") as log:
            log.write(f"{len(paths)}\n")
        return here(self.target, paths)


class InOrderAndContains(Counting):
    in_order = True


class ContainsDies(Counting):
    """Dies of the evil file also when it is only asked about it."""

    def contains(self, paths: list[str]) -> Collection[str]:
        if any("evil" in path for path in paths):
            os._exit(6)
        return super().contains(paths)


class ContainsAlwaysRaises(Counting):
    def contains(self, paths: list[str]) -> Collection[str]:
        super().contains(paths)
        raise RuntimeError("cannot ask")


class ContainsHangs(Counting):
    def contains(self, paths: list[str]) -> Collection[str]:
        time.sleep(10_000)
        return []


class ContainsReturnsText(Counting):
    def contains(self, paths: list[str]) -> Collection[str]:
        return "".join(paths)


class EvilButIn(Counting):
    """Kills itself right after the evil file got in."""

    @staticmethod
    def bad_function(path: str) -> list[Any]:
        (Path(path).parent.parent / "target" / os.path.basename(path)).touch()
        os._exit(3)


class LoadsOnce(Counting):
    """Cannot be loaded a second time."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        mark = self.target / "loaded"
        if mark.exists():
            raise ConnectionError("the target is down")
        mark.touch()


class LoadsOnceInOrder(LoadsOnce):
    in_order = True


class Slow(Counting):
    """Takes half a second for each file whose name contains ``slow``."""

    def one(self, path: str) -> list[Any]:
        if "slow" in path:
            time.sleep(0.5)
        if "stuck" in path:
            (self.target / "is-stuck").touch()
            time.sleep(10_000)
        return Base.one(self, path)


class SlowInOrder(Slow):
    in_order = True


class SlowAndCannotTell(Slow):
    contains = ContainsHangs.contains


class SlowInOrderOnly(Base):
    in_order = True
    bad_function = staticmethod(os_exit)
    one = Slow.one


class SpeaksOutOfTurnInOrder(SlowInOrderOnly):
    """Goes on after it has spoken."""

    def one(self, path: str) -> list[Any]:
        outcomes = super().one(path)
        if "slow" in path:
            write_junk()
        return outcomes


class SkipsAndDiesInOrder(SlowInOrderOnly):
    """Says nothing of some files."""

    def one(self, path: str) -> list[Any]:
        return [] if "skipped" in path else super().one(path)


class SkipsAndRaisesInOrder(SkipsAndDiesInOrder):
    bad_function = staticmethod(raises)


class SlowNeither(Base):
    bad_function = staticmethod(os_exit)
    one = Slow.one


class Forking(Counting):
    """Starts a process when it is loaded that leaves its session, as a daemon does."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        _sleeper(str(self.target / "forked"), leave_group=True)


class Environment(Counting):
    """Tells in its outcome's note what it finds around it."""

    def one(self, path: str) -> list[Any]:
        with open("/proc/self/oom_score_adj") as file:
            oom = file.read().strip()
        facts = {
            "hidden": [name for name, value in os.environ.items() if value == "secret"],
            "PYTHONPATH": os.environ.get("PYTHONPATH"),
            "oom": oom,
            "django": "django" in sys.modules,
            "cwd": os.getcwd(),
            "sigint": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
            "sigterm": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
            "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, set())),
            "session": os.getsid(0) == os.getpid(),
        }
        return [Outcome.success(path, repr(facts))]


class Stubborn(Counting):
    """Does not end when it is asked politely."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        threading.Thread(target=time.sleep, args=(10_000,)).start()


class ConstructorConfigError(Base):
    def __init__(self, config: dict[str, Any]) -> None:
        raise PluginConfigError("plugin.config.colour: expected a colour, say red")


class ConstructorRaises(Base):
    def __init__(self, config: dict[str, Any]) -> None:
        raise ConnectionError("the target is down")


class ConstructorBaseException(Base):
    def __init__(self, config: dict[str, Any]) -> None:
        raise Unspeakable


class ConstructorSysExit(Base):
    def __init__(self, config: dict[str, Any]) -> None:
        sys.exit(2)


class ConstructorOsExit(Base):
    def __init__(self, config: dict[str, Any]) -> None:
        print("famous last words", file=sys.stderr)
        os._exit(9)


class ConstructorSegfault(Base):
    def __init__(self, config: dict[str, Any]) -> None:
        ctypes.string_at(0)


class ConstructorHangs(Base):
    def __init__(self, config: dict[str, Any]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ctypes.PyDLL(None).sleep(10_000)


class ConstructorSpeaksOutOfTurn(Base):
    def __init__(self, config: dict[str, Any]) -> None:
        write_into_pipe("")


class VersionRaises(Base):
    def __init__(self, config: dict[str, Any]) -> None:
        pass

    def version(self) -> str:
        raise RuntimeError("no version")


class VersionNotText(Counting):
    def version(self) -> Any:
        return (1, 2)


class NoMethods:
    def __init__(self, config: dict[str, Any]) -> None:
        pass


not_a_class = 7


class RaisesAtTheEnd(Counting):
    def ingest(self, paths: list[str]) -> Iterator[Any]:
        yield from super().ingest(paths)
        raise RuntimeError("while tidying up")
