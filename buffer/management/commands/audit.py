"""``manage.py audit [CONFIG]``: compare the storage with the database."""

from __future__ import annotations

import json as jsonlib
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from buffer import audit_config, database, database_ready
from buffer.audit import Audit, Options, Report
from buffer.audit_pace import Subset
from buffer.commands import ComponentCommand, configuration_errors
from buffer.config import ComponentFile
from buffer.models import FindingKind
from buffer.redaction import redact
from buffer.signals import StopSignals


class Command(ComponentCommand[ComponentFile]):
    """``manage.py audit [CONFIG]``."""

    help = (
        "Compare the storage with the database, both ways: files that are missing, changed or"
        " without a row, and rows made by hand. Nothing is repaired; what to do is said of each"
        " finding. Exit status: 0 nothing is wrong, 1 something was found or the audit failed, 2"
        " bad usage or configuration."
    )
    model = ComponentFile
    sets_up_logging = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Add what the command takes."""
        parser.add_argument(
            "config",
            metavar="CONFIG",
            nargs="?",
            help="a finder's, an ingester's or a backfill's YAML file, which names the database,"
            " the storage area and where it is mounted here (default: all storage areas of the"
            " database that DATABASE_URL names)",
        )
        parser.add_argument(
            "--checksums",
            action="store_true",
            help="read every file and compare its checksum (default: its size)",
        )
        parser.add_argument(
            "--subset",
            type=_subset,
            default=Subset(),
            metavar="K/N",
            help="look at the K-th of N parts only; N runs, 1/N to N/N, look at everything",
        )
        parser.add_argument(
            "--max-rate",
            type=_rate,
            metavar="MB",
            help="read at most so many megabytes in a second, to leave the disk to others",
        )
        parser.add_argument(
            "--no-mark",
            action="store_true",
            help="write nothing to the database (default: suspect files are marked, and the marks"
            " of those that were read and found right again are cleared)",
        )
        parser.add_argument("--json", action="store_true", help="print JSON for a script")

    def handle(self, *, config: str | None, **options: Any) -> None:
        """Audit; exits with status 2 if the configuration or the database cannot be used."""
        with configuration_errors():
            loaded = None if config is None else self.prepare(config)
            if loaded is None:
                database_ready.require_migrated()
            self.run_component(loaded, **options)

    def load(self, path: str) -> ComponentFile:
        """Read the file of any component."""
        return audit_config.load(path)

    def run_component(self, config: ComponentFile | None, **options: Any) -> None:
        """Audit each storage area in turn."""
        areas = audit_config.areas(config)
        wanted = Options(
            subset=options["subset"],
            checksums=options["checksums"],
            mark=not options["no_mark"],
            max_rate=options["max_rate"],
        )
        printer: _Printer = (_Json if options["json"] else _Lines)(self.stdout.write)
        reports: list[Report] = []
        failure = ""
        try:
            with StopSignals() as stop:
                for area in areas:
                    if stop.requested:
                        break
                    audit = Audit(area, wanted, stop, self.stderr.write)
                    reports.append(audit.report)
                    for finding in audit.findings():
                        printer.finding(finding)
                    printer.report(audit.report)
        except (DatabaseError, InterfaceError) as error:
            text = redact(" ".join(str(error).split()))
            failure = f"the database {database.describe()} failed: {text}"
        printer.end(failure)
        errors = [f"{one.storage}: {one.error}" for one in reports if one.error]
        if failure:
            errors.append(failure)
        found = sum(sum(report.counts.values()) for report in reports)
        if found:
            errors.append(
                f"{found} finding{'s' if found > 1 else ''}; nothing was repaired"
                " (`manage.py explain PATH` tells more of a file)"
            )
        if errors:
            raise CommandError("\n".join(errors))


class _Lines:
    """Prints for a person."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def finding(self, finding: Any) -> None:
        self._write(str(finding))

    def report(self, report: Report) -> None:
        found = ", ".join(
            f"{report.counts[kind]} {kind}" for kind in FindingKind if report.counts[kind]
        )
        text = (
            f"audit of {report.storage} ({report.root}): {report.rows} rows and {report.files}"
            f" files were looked at, {report.size_bytes / 1e6:.1f} MB read; {found or 'nothing'}"
            " found"
        )
        if report.cleared:
            text += f"; {report.cleared} marks cleared, of files that are as recorded again"
        if report.reached:
            text += f"\nstopped before the end: {report.reached}"
        self._write(text)

    def end(self, failure: str) -> None:
        """Print nothing more."""


class _Json:
    """Prints one JSON document, part by part: there may be more findings than memory."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._reports: list[dict[str, Any]] = []
        self._before = '{"findings": ['

    def finding(self, finding: Any) -> None:
        self._write(self._before + jsonlib.dumps(finding.as_json()))
        self._before = ","

    def report(self, report: Report) -> None:
        self._reports.append(report.as_json())

    def end(self, failure: str) -> None:
        head = self._before if self._before.startswith("{") else ""
        rest = {"storages": self._reports, "error": failure}
        self._write(f"{head}], {jsonlib.dumps(rest)[1:]}")


_Printer = _Lines | _Json


def _subset(text: str) -> Subset:
    try:
        return Subset.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.001 <= rate <= 1e9:
        raise ArgumentTypeError(f"expected a number of megabytes above 0, got {text!r}")
    return rate * 1e6
