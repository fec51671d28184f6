"""``manage.py explain PATH``: why this file is where it is."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from buffer import database_ready
from buffer.commands import EXIT_CONFIGURATION, configuration_errors
from ingest.explain import Explanation, FileFacts, explain


class Command(BaseCommand):
    """``manage.py explain PATH``."""

    help = "Say why a file is where it is: found, refused, stored, and what is next."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the path and the form of the answer."""
        parser.add_argument(
            "path",
            metavar="PATH",
            help="absolute, or relative to a storage area or a buffer, or a bare file name; or a"
            " file's checksum",
        )
        parser.add_argument("--json", action="store_true", help="print JSON for a script")

    def handle(self, *, path: str, json: bool, **options: Any) -> None:
        """Print it; exits with status 2 if the database cannot be used."""
        if not path.strip("/") or "\0" in path:
            raise CommandError("PATH: expected the path of a file", returncode=EXIT_CONFIGURATION)
        with configuration_errors():
            database_ready.require_migrated()
        found = explain(path)
        if json:
            self.stdout.write(jsonlib.dumps(asdict(found), cls=DjangoJSONEncoder, indent=2))
        else:
            self.stdout.write("\n".join(_lines(found)))


def _lines(found: Explanation) -> Iterator[str]:
    yield f"{found.path}: {found.verdict}"
    for buffer in found.buffers:
        yield ""
        yield f"Buffer {buffer.source}"
        yield f"  {buffer.path}: {buffer.conclusion}"
        yield f"  {buffer.finder}"
    if found.expectations:
        yield ""
        yield "If such a file were stored"
    for row in found.expectations:
        yield f"  {row.ingester}: {row.decision} ({row.path})"
    for refusal in found.refusals:
        yield ""
        state = "standing" if refusal.open else refusal.resolved
        yield f"Refusal {refusal.reason} ({state})"
        yield f"  {refusal.path} in {refusal.source}: {refusal.detail}"
        stored = f"; collides with file {refusal.file_id}" if refusal.file_id else ""
        yield (
            f"  seen {refusal.times_seen} times, {_time(refusal.first_seen)} to"
            f" {_time(refusal.last_seen)}{stored}"
        )
        if refusal.kept:
            yield f"  a copy of it is kept: {refusal.kept}"
    for file in found.files:
        yield ""
        yield from _file_lines(file)


def _file_lines(file: FileFacts) -> Iterator[str]:
    yield f"File {file.id} in storage {file.storage}: {file.stage}"
    yield f"  {file.path}: {file.on_disk}"
    yield f"  {file.size_bytes} bytes, {file.checksum}, added {_time(file.added_on)}"
    for mark in file.suspicions:
        times = f"{_time(mark.found_on)} to {_time(mark.seen_on)}"
        state = "stands" if mark.standing else f"cleared: {mark.cleared}"
        yield f"  audit: {mark.kind}, {mark.detail} ({times} by {mark.found_by}; {state})"
        if mark.standing:
            yield f"    to do: {mark.proposal}"
    if not file.ingesters:
        yield "  no ingester reads this storage yet"
    for row in file.ingesters:
        if not row.status:
            yield f"  {row.ingester}: not opened yet"
        else:
            tries = f", {row.attempts} attempts" if row.attempts else ""
            yield f"  {row.ingester}: {row.status} since {_time(row.since)}{tries}"
        for line in row.message.splitlines()[:10]:
            yield f"      {line}"
        yield f"    next: {row.next}"


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "?"
