"""``manage.py history PATH``: all that has happened to a file."""

from __future__ import annotations

import json as jsonlib
from argparse import ArgumentTypeError
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from buffer import database_ready
from buffer.commands import EXIT_CONFIGURATION, configuration_errors
from buffer.names import escape
from ingest.history import SOME, FileHistory, Happening, history

#: Lines of a message; --json has all.
_LINES: Final = 10


class Command(BaseCommand):
    """``manage.py history PATH``."""

    help = "Show all that has happened to a file, at all ingesters."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the path and the form of the answer."""
        parser.add_argument(
            "path",
            metavar="PATH",
            help="absolute, or relative to a storage area or a buffer, or a bare file name; or a"
            " file's checksum",
        )
        parser.add_argument(
            "--limit", type=_limit, default=SOME, metavar="N", help="the newest N events of a file"
        )
        parser.add_argument("--json", action="store_true", help="print JSON for a script")

    def handle(self, *, path: str, limit: int, json: bool, **options: Any) -> None:
        """Print it; exits with status 2 if the database cannot be used."""
        if not path.strip("/") or "\0" in path:
            raise CommandError("PATH: expected the path of a file", returncode=EXIT_CONFIGURATION)
        with configuration_errors():
            database_ready.require_migrated()
        found = history(path, limit)
        if json:
            plain = [asdict(one) for one in found]
            self.stdout.write(jsonlib.dumps(plain, cls=DjangoJSONEncoder, indent=2))
        elif found:
            self.stdout.write("\n".join(line for one in found for line in _lines(one)))
        else:
            self.stdout.write(
                f"{escape(path)}: no such file is tracked (manage.py explain says why)"
            )


def _lines(found: FileHistory) -> Iterator[str]:
    yield f"File {found.id} in storage {found.storage}: {found.path}"
    left_out = found.left_out
    for happening in found.happenings:
        if happening.ingester and left_out:
            yield f"  ({left_out} older events are left out: --limit)"
            left_out = 0
        yield from _happening_lines(happening)


def _happening_lines(one: Happening) -> Iterator[str]:
    parts = [f"  {one.at:%Y-%m-%d %H:%M:%S}", one.ingester, one.what]
    if one.duration is not None:
        parts.append(f"in {one.duration:.2f} s")
    if one.by:
        parts.append(f"by {one.by}")
    if one.version:
        parts.append(f"({one.version})")
    yield " ".join(part for part in parts if part)
    if one.note:
        yield f"      note: {' '.join(one.note.split())}"
    for line in one.message.splitlines()[:_LINES]:
        yield f"      {line}"


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise ArgumentTypeError(f"expected a number of 1 or more, got {text!r}")
    return int(text)
