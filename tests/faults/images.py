"""File systems in image files, whose power can be cut.

A cut takes the image as it is on its device: what only the kernel's memory has is not in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.tools import need, need_root

_MB = 1 << 20


class Image:
    """An ext4 file system of its own, mounted below a directory.

    Parameters
    ----------
    template
        An image made by `make_template`.
    directory
        Where the image file and the mount point are made. On tmpfs, what the loop device has
        written is what a reader of the image file sees, and nothing else is.
    name
        Of both.
    """

    def __init__(self, template: Path, directory: Path, name: str) -> None:
        self._file, self._after = directory / f"{name}.img", directory / f"{name}.cut"
        self.mount_point = directory / name
        self.mount_point.mkdir(exist_ok=True)
        _copy_sparse(template, self._file)
        self._mount(self._file)
        self._noise = self.mount_point / "noise"

    def commit_journal(self) -> None:
        """Do what a busy neighbour does all the time: sync a file, and with it the journal.

        Names and sizes of all files reach the device by that; the data of the others do not.
        """
        descriptor = os.open(self._noise, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(descriptor, b"x")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Bring everything to the device."""
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        try:
            assert ctypes.CDLL(None).syncfs(descriptor) == 0
        finally:
            os.close(descriptor)

    def cut(self) -> None:
        """Save what is on the device now; `power_on` shows it."""
        for _ in range(100):
            before = self._requests()
            _copy_sparse(self._file, self._after)
            # A copy beside which the kernel wrote is a state that never was.
            if self._requests() == before:
                return
            time.sleep(0.05)
        raise AssertionError("the kernel never stops to write")

    def power_on(self) -> None:
        """Mount what was on the device at the cut at the place of the original.

        The journal is replayed by that.
        """
        self.unmount()
        os.replace(self._after, self._file)
        self._mount(self._file)

    def unmount(self) -> None:
        """Unmount what is mounted, if something is."""
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run(["umount", self.mount_point], check=True, capture_output=True)
        if os.path.ismount(self.mount_point):
            subprocess.run(["umount", "--lazy", self.mount_point], check=True)
            raise AssertionError(f"somebody still uses {self.mount_point}")

    def close(self) -> None:
        """Unmount and remove everything."""
        try:
            self.unmount()
        finally:
            for path in (self._file, self._after):
                path.unlink(missing_ok=True)
            self.mount_point.rmdir()

    def _mount(self, file: Path) -> None:
        # The journal is committed by whoever syncs, and by the kernel every 5 s, as always.
        command = ["mount", "-t", "ext4", "-o", "loop,data=ordered,barrier=1", file]
        subprocess.run([*command, self.mount_point], check=True, capture_output=True)
        self._device = os.stat(self.mount_point).st_dev

    def _requests(self) -> tuple[str, ...]:
        """Writes begun and completed by the device so far; those in flight."""
        minor = f"{os.major(self._device)}:{os.minor(self._device)}"
        fields = Path(f"/sys/dev/block/{minor}/stat").read_text().split()
        return fields[4], fields[6], fields[8]


def make_template(path: Path) -> None:
    """Make an empty ext4 file system in a file."""
    need_root("mount an image")
    with path.open("wb") as file:
        file.truncate(64 * _MB)
    # What mkfs leaves for later, the kernel would write while a test looks.
    options = "lazy_itable_init=0,lazy_journal_init=0"
    command = [need("mkfs.ext4"), "-q", "-F", "-E", options, "-J", "size=4", path]
    subprocess.run(command, check=True)


def directory_in_memory(name: str) -> Path:
    """Make a directory on a file system in memory."""
    path = Path("/dev/shm") / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without its holes: an image is mostly that."""
    with source.open("rb") as old, target.open("wb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        offset = 0
        while offset < size:
            try:
                offset = os.lseek(old.fileno(), offset, os.SEEK_DATA)
            except OSError:  # only a hole is left
                return
            end = os.lseek(old.fileno(), offset, os.SEEK_HOLE)
            while offset < end:
                block = os.pread(old.fileno(), min(_MB, end - offset), offset)
                os.pwrite(new.fileno(), block, offset)
                offset += len(block)
