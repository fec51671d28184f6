"""``manage.py runworkers``: workers for ingesters that run with --external-workers."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from buffer import database_ready, logsetup
from buffer.commands import configuration_errors, database_errors
from buffer.sections import Logging
from ingest.external_workers import run_workers


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ArgumentTypeError(f"expected a number from 1 to 256, got {text!r}")
    return int(text)


class Command(BaseCommand):
    help = "Run workers on this host for every ingester started with --external-workers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workers", type=_count, default=2, help="how many (default: 2)")

    def handle(self, *, workers: int, **_: Any) -> None:
        with configuration_errors():
            logsetup.setup(Logging())
            database_ready.require_migrated()
            with database_errors():
                run_workers(workers)
        self.stdout.write("workers stopped")
