"""Programs that tests need, installed if they are missing and this machine lets us."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

from tests.conftest import unavailable

#: Debian's packages of programs that are not called as their package.
PACKAGES = {
    "cc": "gcc",
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "mkfs.ext4": "e2fsprogs",
    "psql": "postgresql-client",
    "rsync": "rsync",
    "sqlite3": "sqlite3",
    "strace": "strace",
}


def need(program: str) -> str:
    """Give the path of a program; install it, or skip the test and say why.

    Parameters
    ----------
    program
        Its name; a key of `PACKAGES`.
    """
    path = _installed(program)
    if path is None:
        unavailable(f"{program} is not installed, and the package {PACKAGES[program]} can't be")
    return str(path)


def need_root(what: str) -> None:
    """Skip the test if it is not run by root, and say what it would do."""
    if os.geteuid() != 0:
        unavailable(f"only root can {what}")


@functools.cache
def _installed(program: str) -> str | None:
    if (path := shutil.which(program)) or os.geteuid() != 0 or not shutil.which("apt-get"):
        return path
    # Another process of the same run of tests may be at it.
    apt = ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=120", "--no-install-recommends"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", PACKAGES[program]]):
        subprocess.run([*apt, *command], env=environment, check=False, capture_output=True)
    return shutil.which(program)
