"""``manage.py runingester CONFIG``: give stored files to a data management system."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from buffer.commands import ComponentCommand
from ingest.config import IngesterFile, check_ingester
from ingest.ingester import run_ingester
from ingest.loop import HeldBack, TargetDown


class Command(ComponentCommand[IngesterFile]):
    help = "Ingest stored files, for ever or until nothing is left to do."
    model = IngesterFile

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="stop when nothing is left, as daemon: false"
        )
        parser.add_argument(
            "--external-workers",
            action="store_true",
            help="start no workers: those of `manage.py runworkers`, on any host, do the work",
        )

    def check_config(self, config: IngesterFile) -> list[str]:
        return check_ingester(config, settings.INGEST_PLUGINS)

    def run_component(self, config: IngesterFile, **options: Any) -> None:
        once = options["once"] or not config.ingester.daemon
        try:
            outcomes = run_ingester(config, once=once, external_workers=options["external_workers"])
        except (HeldBack, TargetDown) as error:
            raise CommandError(str(error)) from None
        done = ", ".join(f"{number} {status}" for status, number in outcomes.items())
        self.stdout.write(f"ingester stopped: {done or 'nothing to do'}")
