"""Media that go bad: file systems of a test's own, and system calls that fail in processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from buffer.names import INCOMING_DIR, MARKER_NAME
from tests.system import process_table
from tests.system.product import Command, Product
from tests.tools import need, need_root

#: FS_IOC_SHUTDOWN of Linux, and its flag for "write nothing any more".
_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)
#: What mkfs would leave to the kernel frees room in the image at a time of its own.
_EAGER = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"


class Mounts:
    """File systems that are mounted for one test."""

    def __init__(self) -> None:
        self._mounted: list[Path] = []

    def tmpfs(self, place: Path, options: str) -> None:
        """Mount an empty file system in memory."""
        self._mount(place, "-t", "tmpfs", "-o", f"{options},mode=0755", "tmpfs")

    def ext4(self, place: Path, image: Path) -> None:
        """Mount an image, made now if it is not there, by a loop device."""
        if not image.exists():
            with image.open("wb") as file:
                file.truncate(32 << 20)
            subprocess.run([need("mkfs.ext4"), "-q", "-F", str(image)], check=True)
        self._mount(place, "-o", "loop,nodiscard", str(image))

    def thin(self, place: Path, volume: Path, *directories: str) -> Thin:
        """Mount an ext4 file system whose free blocks have no room below them yet."""
        self.tmpfs(volume, "size=40m")
        image = volume / "image"
        image.write_bytes(bytes(32 << 20))
        subprocess.run([need("mkfs.ext4"), "-q", "-F", "-E", _EAGER, str(image)], check=True)
        # What mkfs has punched out has room again: all but the free blocks is safe.
        image_bytes = image.read_bytes()
        with image.open("r+b") as file:
            file.write(image_bytes)
        self._mount(place, "-o", "loop,nodiscard", str(image))
        _write_page_by_page(place)
        for directory in directories:
            (place / directory).mkdir(parents=True)
        sync(place)
        subprocess.run(["fstrim", str(place)], check=True)
        return Thin(volume)

    def remount(self, place: Path, option: str) -> None:
        """Change an option, as soon as nobody writes there."""
        _insist("mount", "-o", f"remount,{option}", str(place))

    def unmount(self, place: Path, *options: str) -> None:
        """Unmount, as soon as nobody has anything open there."""
        _insist("umount", *options, str(place))
        self._mounted.remove(place)

    def lose(self, place: Path) -> None:
        """Cut an ext4 file system off its device: from now on everything fails."""
        descriptor = os.open(place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Unmount what is left; its users may not be gone yet."""
        while self._mounted:
            subprocess.run(["umount", "--lazy", str(self._mounted.pop())], check=True)

    def _mount(self, place: Path, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, str(place)], check=True)
        self._mounted.append(place)


class Thin:
    """A volume with less room than it promises, as with thin provisioning.

    Where it has none, writes succeed at first; the kernel finds out when it writes to the medium.
    """

    def __init__(self, volume: Path) -> None:
        self._filler, self._volume = volume / "filler", volume

    def fill(self) -> None:
        """Take all room away."""
        with self._filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                os.write(file.fileno(), bytes(4096))

    def free(self) -> None:
        """Give it back."""
        self._filler.unlink()


def sync(place: Path) -> None:
    """Sync one file system, and none of those that other tests are having fail."""
    subprocess.run(["sync", "-f", str(place)], check=True)


def _write_page_by_page(place: Path) -> None:
    """Keep a file system's loop device from taking a write that found room for its first page only.

    Linux calls such a short write a success, so that fsync does not tell; one page fails or not.
    """
    device = place.stat().st_dev
    queue = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/queue")
    (queue / "max_sectors_kb").write_text(str(os.sysconf("SC_PAGE_SIZE") // 1024))


def _insist(*command: str) -> None:
    """Repeat a command until nobody is in its way."""
    end = time.monotonic() + 30
    while (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        assert time.monotonic() < end, done.stderr
        time.sleep(0.02)


class Injection:
    """System calls of running processes that fail, until it is closed.

    Parameters
    ----------
    command
        Whose processes.
    errors
        Names of errors by system call.
    paths
        Only calls by descriptors of these files and directories, if any are given.
    report
        A file for what strace writes.
    """

    def __init__(
        self, command: Command, errors: dict[str, str], paths: Sequence[Path], report: Path
    ) -> None:
        pids = [command.process.pid] + [
            p for p, _ in process_table.descendants(command.process.pid)
        ]
        workers = [pid for pid in pids if process_table.name_of(pid).startswith("worker")]
        assert workers, "it has no workers"
        self._report = report
        self._process = subprocess.Popen(
            [
                *(need("strace"), "-f", "-o", str(report), "-e", f"trace={','.join(errors)}"),
                *(f"--inject={call}:error={error}" for call, error in errors.items()),
                *(f"--trace-path={path}" for path in paths),
                *(f"--attach={pid}" for pid in workers),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        assert "attached" in line, line

    def count(self) -> int:
        """Count the calls that have failed so far."""
        return len(re.findall(r"\(INJECTED\)", self._report.read_text(errors="replace")))

    def close(self) -> None:
        """Let all calls succeed again."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)


@contextlib.contextmanager
def injected(
    product: Product, command: Command, errors: dict[str, str], paths: Sequence[Path] = ()
) -> Iterator[Injection]:
    """Make system calls of a command's workers fail for a while."""
    injection = Injection(command, errors, paths, product.root / "strace")
    try:
        yield injection
    finally:
        injection.close()


class Witness:
    """Looks at the files in storage all the time: none may ever be other than it was sent.

    Parameters
    ----------
    product
        Whose storage.
    """

    def __init__(self, product: Product) -> None:
        self._product = product
        self.sent: dict[str, bytes] = {}
        self.looks = 0
        self.wrong: list[str] = []
        self._end = threading.Event()
        #: Held while the witness has anything open.
        self.looking = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def land(self, name: str, content: bytes | None = None) -> Path:
        """Send a file."""
        self.sent[name] = os.urandom(2000) if content is None else content
        return self._product.land(name, self.sent[name])

    def land_together(self, directory: str, count: int, size: int = 2000) -> None:
        """Send many files that are settled at one moment: their directory appears with them."""
        draft = self._product.buffer.with_name("draft")
        draft.mkdir(exist_ok=True)
        for number in range(count):
            content = self.sent[f"{directory}/{number}"] = os.urandom(size)
            (draft / f"{number}").write_bytes(content)
        time.sleep(0.5)
        draft.rename(self._product.buffer / directory)

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        assert not self.wrong, self.wrong
        assert self.looks

    def _watch(self) -> None:
        while not self._end.wait(0.01):
            with self.looking, contextlib.suppress(OSError):
                self._look(self._product.storage)
            self.looks += 1

    def _look(self, directory: Path) -> None:
        for path in directory.iterdir():
            if path.name in (INCOMING_DIR, MARKER_NAME) or path.name.startswith(MARKER_NAME):
                continue
            if path.is_dir():
                self._look(path)
                continue
            name = str(path.relative_to(self._product.storage))
            content = path.read_bytes()
            if self.sent.get(name) != content:
                self.wrong.append(f"{name} has {len(content)} bytes that were not sent")


class Recovered:
    """What must be so again once a fault has gone, and how long that took.

    Parameters
    ----------
    product
        Where.
    """

    def __init__(self, product: Product) -> None:
        self._product = product

    def message(self) -> str:
        """Give what the newest finder says that it waits for."""
        sql = "SELECT message FROM buffer_component WHERE kind = 'finder' ORDER BY id DESC LIMIT 1"
        return str(self._product.value(sql) or "")

    def refusals(self) -> dict[str, str]:
        """Give the reasons of the open refusals by path."""
        sql = "SELECT path, reason FROM buffer_refusal WHERE resolved_on IS NULL"
        return dict(self._product.rows(sql))

    def wait(self, sent: dict[str, bytes]) -> float:
        """Wait until everything that was sent is stored and nothing is refused any more."""
        begin = time.monotonic()
        product = self._product

        def is_whole() -> bool:
            return (
                product.stored() == len(sent)
                and not any(path.is_file() for path in product.buffer.rglob("*"))
                and not self.refusals()
                and not self.message()
            )

        product.wait(is_whole, "it is right again by itself")
        took = time.monotonic() - begin
        assert product.files_in(product.storage) == sent
        # A copy's first name goes last, after the source.
        copies = product.storage / INCOMING_DIR
        product.wait(lambda: not list(copies.glob("*")), "no copies are left over")
        return took


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    """File systems of the test's own."""
    need_root("mount file systems")
    made = Mounts()
    yield made
    made.close()


@pytest.fixture
def product(mounts: Mounts, product_on_sqlite: Product) -> Product:
    """The kind of database makes no difference to a medium."""
    return product_on_sqlite


@pytest.fixture
def witness(product: Product) -> Iterator[Witness]:
    """Somebody who looks at the storage all the time."""
    with Witness(product) as someone:
        yield someone


def running(product: Product, witness: Witness, **finder: Any) -> tuple[Command, Recovered]:
    """Start a finder, and see that it works."""
    command = product.start("runfinder", product.finder_yaml(**finder))
    witness.land("night/first")
    product.wait(lambda: product.stored() == 1, "it works")
    return command, Recovered(product)
