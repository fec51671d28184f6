"""``manage.py runfinder CONFIG``: take in what arrives."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from buffer.commands import ComponentCommand
from buffer.dry_run import rehearse
from buffer.finder_config import FinderFile
from buffer.finder_loop import Blocked, run_finder
from buffer.finder_paths import check_paths
from buffer.locking import Locked
from buffer.storages import NotMounted


class Command(ComponentCommand[FinderFile]):
    help = "Take files from the buffer into storage, for ever or until nothing is left to do."
    model = FinderFile

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="stop when a full scan finds nothing more to do"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would be done, and do nothing"
        )

    def check_config(self, config: FinderFile) -> list[str]:
        return check_paths(config)

    def run_component(self, config: FinderFile, **options: Any) -> None:
        if options["dry_run"]:
            for line in rehearse(config):
                self.stdout.write(line)
            return
        try:
            counters = run_finder(config, once=options["once"])
        except (Locked, Blocked, NotMounted) as error:
            raise CommandError(str(error)) from None
        done = ", ".join(
            f"{counters.get(kind, 0)} {kind}"
            for kind in ("stored", "duplicates", "refused", "recovered", "waiting")
        )
        self.stdout.write(f"finder stopped: {done}")
