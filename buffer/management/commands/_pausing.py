"""What ``manage.py pause`` and ``manage.py resume`` have in common."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from buffer import database_ready
from buffer.commands import EXIT_CONFIGURATION, configuration_errors
from buffer.models import Component, ComponentKind
from buffer.names import escape
from buffer.operator_pauses import Pausable


class PausingCommand(BaseCommand):
    """A command for one finder or one ingester."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add which one, who and why."""
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--ingester", metavar="NAME", help="an ingester, on all hosts")
        which.add_argument("--finder", metavar="SOURCE", help="the finder of a source directory")
        parser.add_argument("--host", help="the finder's host; default: this one")
        parser.add_argument("--note", default="", metavar="TEXT", help="why, for the history")
        parser.add_argument("--user", metavar="NAME", help="who asks; default: the login name")

    def handle(self, **options: Any) -> None:
        """Do it; exits with status 2 if there is no such finder or ingester."""
        with configuration_errors():
            database_ready.require_migrated()
        what = _named(options)
        user = options["user"] or _login_name()
        self.stdout.write(self.act(what, user=user, note=options["note"]))

    def act(self, what: Pausable, *, user: str, note: str) -> str:
        """Do it, and say what was done."""
        raise NotImplementedError


def _named(options: dict[str, Any]) -> Pausable:
    if options["ingester"]:
        what = Pausable(ComponentKind.INGESTER, options["ingester"])
        if options["host"]:
            raise _usage("--host: an ingester is paused on all hosts")
    else:
        host = options["host"] or socket.gethostname()
        what = Pausable(ComponentKind.FINDER, os.path.abspath(options["finder"]), host)
    runs = Component.objects.filter(kind=what.kind)
    known = {found for row in runs.order_by("id") if (found := Pausable.of(row))}
    # One that has not run for a week is forgotten, but not its pause.
    if what not in known and not what.pauses().exists():
        names = ", ".join(sorted(map(str, known))) or "none has run lately"
        raise _usage(f"there is no {what} (known: {names})")
    return what


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "command line"


def _usage(text: str) -> CommandError:
    return CommandError(escape(text), returncode=EXIT_CONFIGURATION)
