"""``manage.py demo``: the whole way of some twenty files, for real."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from buffer.commands import EXIT_CONFIGURATION, configuration_errors
from buffer.names import escape
from ingest.demo.place import NotADemo


class Command(BaseCommand):
    """``manage.py demo [--directory DIRECTORY]``."""

    help = "Show the whole way of some twenty files, for real, in a directory of its own."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the directory."""
        parser.add_argument(
            "--directory",
            type=Path,
            default=Path(settings.BASE_DIR) / "demo",
            help="made anew at each run (default: demo, in the project)",
        )

    def handle(self, *, directory: Path, **_: Any) -> None:
        """Run it; exits with status 1 if anything did not turn out as planned."""
        try:
            from ingest.demo.landing import NotTakenIn
            from ingest.demo.processes import CommandFailed
            from ingest.demo.story import Demo
        except ImportError as error:
            raise CommandError(
                f"the demo needs packages that are not installed ({error}); run: "
                "pip install -r requirements-butler.txt, or: make demo",
                returncode=EXIT_CONFIGURATION,
            ) from None
        # Without this the finder that was started would go on by itself.
        signal.signal(signal.SIGTERM, _leave)
        try:
            with configuration_errors():
                demo = Demo(directory, password=os.environ.get("DEMO_PASSWORD"))
                surprises = demo.run()
        except NotADemo as error:
            raise CommandError(str(error), returncode=EXIT_CONFIGURATION) from None
        except (CommandFailed, NotTakenIn) as error:
            raise CommandError(
                f"the demo stopped: {error}\nIts logs are in {escape(directory)}"
            ) from None
        if surprises:
            raise CommandError(f"{len(surprises)} surprises; the logs are in {escape(directory)}")


def _leave(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)
