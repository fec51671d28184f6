"""Check YAML files without starting anything."""

from __future__ import annotations

import difflib
import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from buffer import database, logsetup
from buffer.commands import configuration_error
from buffer.config import ComponentFile, place, validate
from buffer.config_errors import COMPONENTS
from buffer.finder_config import FinderFile
from buffer.finder_paths import check_paths
from buffer.names import escape
from buffer.problems import ConfigError, Problem
from buffer.yamlfile import Document, read, show_key
from ingest.backfill_config import BackfillFile, check_backfill
from ingest.config import IngesterFile, check_ingester

MODELS: dict[str, type[ComponentFile]] = {
    "finder": FinderFile,
    "ingester": IngesterFile,
    "backfill": BackfillFile,
}


def check_file(path: str) -> tuple[str, list[str]]:
    """Check one file; nothing but the file system is looked at, and nothing is changed.

    Returns
    -------
    component : `str`
        ``finder``, ``ingester`` or ``backfill``; empty if the file does not say.
    problems : `list` [`str`]
        One line each; empty if all is well.
    """
    component = ""
    try:
        document = read(path)
        component = _component(document)
        config = validate(document, MODELS[component])
    except ConfigError as error:
        return component, error.problems
    problems = [*database.check(config.database), *logsetup.check(config.logging)]
    if isinstance(config, FinderFile):
        problems += check_paths(config)
    elif isinstance(config, IngesterFile):
        problems += check_ingester(config, settings.INGEST_PLUGINS)
    elif isinstance(config, BackfillFile):
        problems += check_backfill(config)
    return component, place(config, problems)


def _component(document: Document) -> str:
    """Tell which component a file is for, by its section."""
    found = [name for name in COMPONENTS if name in document.data]
    if len(found) == 1:
        return found[0]
    shown = [problem.show(document.path) for problem in document.problems]
    sections = f"{', '.join(COMPONENTS[:-1])} or {COMPONENTS[-1]}"
    if found:
        text = f"has the sections {' and '.join(found)}: expected one component per file"
        raise ConfigError([*shown, Problem(0, "", text).show(document.path)])
    text = f"has no section {sections}"
    for key in document.data:
        close = difflib.get_close_matches(key, COMPONENTS, n=1, cutoff=0.6)
        if close:
            text += f': did you mean "{close[0]}" by "{show_key((key,))}"?'
    raise ConfigError([*shown, Problem(0, "", text).show(document.path)])


class Command(BaseCommand):
    """``manage.py validate CONFIG...``."""

    help = "Check YAML files: every error with its key, without starting anything."
    # The files are checked, not this installation; and nothing is connected to.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the files and the form of the answer."""
        parser.add_argument("configs", nargs="+", metavar="CONFIG", help="a component's YAML file")
        parser.add_argument("--json", action="store_true", help="print JSON for a script")

    def handle(self, *, configs: list[str], json: bool, **options: Any) -> None:
        """Check every file; exits with status 2 if any has a problem."""
        results = [(path, *check_file(path)) for path in configs]
        problems = [line for _, _, lines in results for line in lines]
        if json:
            self.stdout.write(_as_json(results))
        else:
            for path, component, lines in results:
                if not lines:
                    self.stdout.write(f"{escape(path)}: ok ({component})")
        if problems:
            raise configuration_error(problems)


def _as_json(results: list[tuple[str, str, list[str]]]) -> str:
    return json.dumps(
        [
            {
                "file": escape(path),
                "component": component or None,
                "ok": not problems,
                "problems": problems,
            }
            for path, component, problems in results
        ],
        indent=2,
    )
