"""``manage.py status``: what waits, runs and failed."""

from __future__ import annotations

import json as jsonlib
from argparse import ArgumentTypeError
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from buffer import database_ready, outages
from buffer.commands import configuration_errors
from buffer.redaction import redact
from buffer.signals import StopSignals
from ingest.overview import overview
from ingest.status_page import page

_WATCH_S: Final = 2.0
#: To the upper left corner, and nothing below.
_CLEAR: Final = "\x1b[H\x1b[J"


class Command(BaseCommand):
    """``manage.py status``."""

    help = "Show what waits, runs and failed at every ingester, and who is at work."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the form of the answer."""
        parser.add_argument(
            "--json", action="store_true", help="print JSON for a script; with --watch, by lines"
        )
        parser.add_argument(
            "--watch",
            type=_seconds,
            nargs="?",
            const=_WATCH_S,
            metavar="SECONDS",
            help=f"again and again, until Ctrl-C (default: every {_WATCH_S:g} s)",
        )

    def handle(self, *, json: bool, watch: float | None, **options: Any) -> None:
        """Print it; exits with status 2 if the database cannot be used."""
        with configuration_errors():
            database_ready.require_migrated()
        if watch is None:
            self.stdout.write(self._look(json, indent=2))
            return
        begin = _CLEAR if self.stdout.isatty() and not json else ""
        with StopSignals() as stop:
            while not stop.requested:
                try:
                    text = self._look(json, indent=None)
                except outages.UNAVAILABLE as error:
                    outages.away(error)
                    self.stderr.write(f"the database does not answer: {redact(str(error))}".strip())
                else:
                    self.stdout.write(f"{begin}{text}")
                    self.stdout.flush()
                stop.wait(watch)

    def _look(self, json: bool, indent: int | None) -> str:
        state = overview()
        if json:
            return jsonlib.dumps(state.as_json(), cls=DjangoJSONEncoder, indent=indent)
        return page(state, terminal=self.stdout.isatty())


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise ArgumentTypeError(f"expected a number of seconds from 0.1 on, got {text!r}")
    return seconds
