"""The program's own commands, started as a person would start them."""

from __future__ import annotations

import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from django.conf import settings

from buffer.names import escape
from ingest.demo.place import Place

#: No command of the demo takes anywhere near this long; seconds.
TIMEOUT_S: Final = 120.0


class CommandFailed(Exception):
    """A command did not end as it should have."""


class Commands:
    """Runs commands in the demo's surroundings.

    Parameters
    ----------
    place : `ingest.demo.place.Place`
        The demo's directory.
    """

    def __init__(self, place: Place) -> None:
        self._environment = place.environment()
        self._scripts = Path(sysconfig.get_path("scripts"))

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run a command of this program to its end; returns what it printed."""
        return self._run([*_manage(), *arguments], environment)

    def butler(self, *arguments: str) -> str:
        """Run the Butler's command line tool; returns what it printed."""
        return self._run([str(self._scripts / "butler"), *arguments], {})

    @contextmanager
    def running(self, *arguments: str) -> Iterator[RunningCommand]:
        """Start a command of this program that runs for ever; it has stopped on leaving."""
        process = subprocess.Popen(
            [*_manage(), *arguments],
            env=self._environment,
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        )
        command = RunningCommand(process, arguments)
        try:
            yield command
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.communicate(timeout=TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()

    def _run(self, arguments: list[str], environment: dict[str, str]) -> str:
        try:
            done = subprocess.run(
                arguments,
                env={**self._environment, **environment},
                cwd=settings.BASE_DIR,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="backslashreplace",
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{_shown(arguments)}: still running after {TIMEOUT_S:g} s") from (
                error
            )
        except OSError as error:
            raise CommandFailed(f"{_shown(arguments)}: cannot be started: {error}") from error
        _require_success(arguments, done.returncode, done.stdout)
        return done.stdout


class RunningCommand:
    """A command that was started and runs until it is told to stop."""

    def __init__(self, process: subprocess.Popen[str], arguments: tuple[str, ...]) -> None:
        self._process = process
        self._arguments = list(arguments)

    def require_alive(self) -> None:
        """Complain if it has ended by itself."""
        if self._process.poll() is not None:
            output, _ = self._process.communicate()
            raise CommandFailed(
                f"{_shown(self._arguments)}: ended by itself with exit status "
                f"{self._process.returncode}:\n{output}"
            )

    def stop(self) -> str:
        """Send SIGTERM, wait, and return what it printed."""
        self.require_alive()
        self._process.send_signal(signal.SIGTERM)
        try:
            output, _ = self._process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(
                f"{_shown(self._arguments)}: did not stop within {TIMEOUT_S:g} s of SIGTERM"
            ) from error
        _require_success(self._arguments, self._process.returncode, output)
        return output


def _manage() -> list[str]:
    return [sys.executable, str(Path(settings.BASE_DIR) / "manage.py")]


def _shown(arguments: list[str]) -> str:
    return escape(" ".join(arguments))


def _require_success(arguments: list[str], status: int, output: str) -> None:
    if status != 0:
        raise CommandFailed(f"{_shown(arguments)}: exit status {status}:\n{output}")
