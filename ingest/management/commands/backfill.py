"""``manage.py backfill CONFIG``: record what was in storage before this system."""

from __future__ import annotations

import json
import os
from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError, CommandParser

from buffer.commands import ComponentCommand
from buffer.names import escape
from buffer.storages import NotMounted
from ingest.backfill_config import BackfillFile, check_backfill
from ingest.backfill_dry_run import rehearse
from ingest.backfill_loop import Blocked, Summary, run_backfill
from ingest.backfill_verify import CannotVerify

MOST_WORKERS = 64
#: What is counted, in the order in which it is told.
KINDS = ("found", "added", "tracked", "failed", "excluded", "verified", "absent", "unanswered")


class Command(ComponentCommand[BackfillFile]):
    help = "Record files that were in storage before this system, with the status BACKFILL."
    model = BackfillFile

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would be recorded, and do nothing"
        )
        parser.add_argument(
            "--verify",
            action="store_true",
            help="ask the ingester's plugin which files its target has: SUCCESS or FAILURE",
        )
        parser.add_argument(
            "--workers",
            type=_count,
            default=min(4, os.cpu_count() or 1),
            metavar="N",
            help="files that are read at a time (default: one for each CPU, at most 4)",
        )
        parser.add_argument("--json", action="store_true", help="print the summary as JSON")

    def check_config(self, config: BackfillFile) -> list[str]:
        problems = check_backfill(config)
        if config.name == config.database.file_table:
            problems.append(
                "database.tablenames.event.table: is the name of the storage"
                " (database.tablenames.file.table) too: choose another"
            )
        return problems

    def run_component(self, config: BackfillFile, **options: Any) -> None:
        summary = Summary()
        try:
            if options["dry_run"]:
                for line in rehearse(config, summary):
                    if not options["json"]:
                        self.stdout.write(line)
            else:
                summary = run_backfill(config, workers=options["workers"], verify=options["verify"])
        except (Blocked, NotMounted, CannotVerify) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(_as_json(summary) if options["json"] else _as_text(summary))
        problems = _problems(config, summary)
        if problems:
            raise CommandError("\n".join(problems))


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= MOST_WORKERS:
        raise ArgumentTypeError(f"expected a number from 1 to {MOST_WORKERS}, got {text!r}")
    return count


def _as_text(summary: Summary) -> str:
    counters = summary.counters
    parts = [f"{counters[kind]} {kind}" for kind in KINDS if kind in counters]
    if counters["taken_over"]:
        parts[KINDS.index("tracked")] += f" ({counters['taken_over']} new to this ingester)"
    text = f"backfill: {', '.join(parts)}"
    if not summary.complete:
        text += "\nstopped before the end; run it again to do the rest"
    return text


def _as_json(summary: Summary) -> str:
    return json.dumps(
        {
            **summary.counters,
            "unmatched": [escape(source) for source in summary.unmatched],
            "complete": summary.complete,
        }
    )


def _problems(config: BackfillFile, summary: Summary) -> list[str]:
    root = escape(config.backfill.storage)
    problems = [
        f"backfill.sources: {escape(source)} matched nothing below {root}"
        + (f" ({hint})" if hint else "")
        for source, hint in summary.unmatched.items()
    ]
    if summary.counters["failed"]:
        problems.append(
            f"{summary.counters['failed']} files were not recorded, or are not what was recorded;"
            " the refusals say why (`manage.py status`, or the admin)"
        )
    if summary.counters["unanswered"]:
        problems.append(
            f"of {summary.counters['unanswered']} files the plugin could not tell whether its"
            " target has them; they keep the status BACKFILL"
        )
    return problems
