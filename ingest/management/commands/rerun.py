"""``manage.py rerun``: ask for another attempt of files, chosen by filter."""

from __future__ import annotations

import getpass
import json as jsonlib
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_date, parse_datetime

from buffer import database_ready
from buffer.commands import EXIT_CONFIGURATION, configuration_errors
from buffer.models import File
from buffer.names import escape
from buffer.progress import LINE_EVERY_S, Amount, Progress
from ingest.models import Ingester
from ingest.rerun import rerun, rerun_files
from ingest.selection import Selection
from ingest.statuses import Status


class Command(BaseCommand):
    """``manage.py rerun --ingester NAME ...``."""

    help = "Ask for another ingest attempt of files. No restart is needed."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the filters."""
        parser.add_argument("--ingester", metavar="NAME", help="which ingester; required")
        parser.add_argument(
            "--status", action="append", default=[], help="current status; may be repeated"
        )
        parser.add_argument(
            "--path",
            default="",
            metavar="GLOB",
            help="a path below the storage, a directory, or a pattern (*, ?, [abc], **)",
        )
        parser.add_argument("--since", metavar="ISO", help="status not older than (UTC)")
        parser.add_argument("--until", metavar="ISO", help="status not newer than (UTC)")
        parser.add_argument(
            "--error", default="", metavar="TEXT", help="text in the cause or the last message"
        )
        parser.add_argument(
            "--file",
            action="append",
            default=[],
            metavar="ID",
            help="id of a file; may be repeated; alone, also files not tried yet",
        )
        parser.add_argument("--all", action="store_true", help="every file of the ingester")
        parser.add_argument("--note", default="", metavar="TEXT", help="why, for the history")
        parser.add_argument("--user", metavar="NAME", help="who asks; default: the login name")
        parser.add_argument("--dry-run", action="store_true", help="count only")
        parser.add_argument("--json", action="store_true", help="print JSON for a script")

    def handle(self, *, dry_run: bool, json: bool, **options: Any) -> None:
        """Ask, and say how many; exits with status 2 on bad usage, before anything is written."""
        with configuration_errors():
            database_ready.require_migrated()
        selection = _selection(options)
        # A file that is named by its id may be one that the ingester has not opened yet.
        by_id_only = selection.file_ids is not None and selection == Selection(
            selection.ingester, file_ids=selection.file_ids
        )
        if dry_run:
            selected = (
                len(selection.file_ids or ()) if by_id_only else selection.ingestions().count()
            )
            if json:
                self.stdout.write(jsonlib.dumps({"selected": selected, "dry_run": True}))
            else:
                self.stdout.write(f"{selected} files selected; nothing was changed (--dry-run)")
            return
        user, note = options["user"] or _login_name(), options["note"]
        with Progress(self.stderr.write, LINE_EVERY_S) as progress:

            def tell(done: int, total: int) -> None:
                progress.show(Amount(done), Amount(total))

            if by_id_only:
                result = rerun_files(
                    selection.file_ids or (), selection.ingester, user=user, note=note, tell=tell
                )
            else:
                result = rerun(selection.ingestions(), user=user, note=note, tell=tell)
        if json:
            counts = {
                "asked": result.asked,
                "claimed": result.claimed,
                "already": result.already,
                "unfit": result.unfit,
            }
            self.stdout.write(jsonlib.dumps(counts))
        else:
            self.stdout.write(f"{selection.ingester.name}: {result.sentence()}")


def _selection(options: dict[str, Any]) -> Selection:
    ingester = _ingester(options["ingester"])
    ids = _ids(options["file"], ingester)
    selection = Selection(
        ingester,
        statuses=tuple(_statuses(options["status"])),
        path=_path(options["path"], ingester),
        since=_moment("--since", options["since"]),
        until=_moment("--until", options["until"]),
        error=options["error"],
        file_ids=ids or None,
    )
    if selection.is_everything() != options["all"]:
        raise _usage(
            "--all cannot be combined with filters"
            if options["all"]
            else "which files? Give --status, --path, --since, --until, --error or --file, or --all"
        )
    if selection.since and selection.until and selection.since > selection.until:
        raise _usage("--since is later than --until")
    return selection


def _ingester(name: str | None) -> Ingester:
    known = {row.name: row for row in Ingester.objects.select_related("storage").order_by("name")}
    names = ", ".join(known) or "none: start one with runingester first"
    if not name:
        raise _usage(f"--ingester is required (known: {names})")
    if name not in known:
        raise _usage(f"--ingester: there is no '{escape(name)}' (known: {names})")
    return known[name]


def _statuses(words: list[str]) -> list[Status]:
    found = []
    for word in words:
        if word.upper() not in Status.values:
            raise _usage(
                f"--status: there is no '{escape(word)}' (known: {', '.join(Status.values)})"
            )
        found.append(Status(word.upper()))
    return found


def _path(path: str, ingester: Ingester) -> str:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise _usage(f"--path: {escape(path)} is not UTF-8, and no stored file's name is") from None
    root = ingester.storage.root.rstrip("/") + "/"
    if path.startswith(root):
        path = path[len(root) :]
    elif path.startswith("/"):
        raise _usage(
            f"--path: {escape(path)} is not in the storage {escape(ingester.storage.root)} that"
            f" {ingester.name} reads"
        )
    return path.removeprefix("./").rstrip("/")


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = parse_datetime(text)
        if moment is None and (day := parse_date(text)) is not None:
            moment = datetime(day.year, day.month, day.day)
    except ValueError:
        moment = None
    if moment is None:
        raise _usage(
            f"{option}: expected a time such as 2026-11-23 or 2026-11-23T21:30:00Z, got"
            f" '{escape(text)}'"
        )
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _ids(texts: list[str], ingester: Ingester) -> list[int]:
    words = [word for text in texts for word in text.split(",")]
    for word in words:
        if not word.isascii() or not word.isdigit() or len(word) > 18:
            raise _usage(f"--file: expected the id number of a file, got '{escape(word)}'")
    ids = [int(word) for word in words]
    stored = File.objects.stored().filter(storage=ingester.storage_id, pk__in=ids)
    known = set(stored.values_list("pk", flat=True))
    if unknown := [str(number) for number in ids if number not in known]:
        raise _usage(
            f"--file: no file {', '.join(unknown)} is stored in '{ingester.storage.name}', which"
            f" {ingester.name} reads"
        )
    return ids


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "command line"


def _usage(text: str) -> CommandError:
    return CommandError(text, returncode=EXIT_CONFIGURATION)
