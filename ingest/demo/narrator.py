"""Tells a person what the demo does."""

from __future__ import annotations

from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape as literally
from rich.table import Table

from buffer.names import escape
from ingest.demo.fates import Fate
from ingest.statuses import Status

#: Of a pipe or a log, which have no width of their own.
_WIDTH: Final = 120
_COLOURS: Final = {Status.SUCCESS: "green", Status.BACKFILL: "cyan", Status.FAILURE: "red"}


class Narrator:
    """Prints the demo's steps."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = _WIDTH
        self._steps = 0

    def step(self, title: str, text: str = "") -> None:
        """Begin a step."""
        self._steps += 1
        self._console.print()
        self._console.rule(f"[bold]{self._steps}. {title}", align="left")
        if text:
            self.say(text)

    def say(self, text: str) -> None:
        """Say something in words."""
        self._console.print(text, markup=False)

    def command(self, line: str) -> None:
        """Show the command that is about to be run."""
        self._console.print(f"  [bold cyan]$ {literally(escape(line))}", soft_wrap=True)

    def output(self, text: str) -> None:
        """Show what a command printed."""
        for line in text.strip("\n").splitlines():
            self._console.print(f"    {line}", markup=False, soft_wrap=True)

    def table(self, fates: list[Fate]) -> None:
        """Show what happened to every file."""
        table = Table(title="What happened to every file", title_justify="left", box=SIMPLE_HEAD)
        for heading in ("file", "arrived", "finder", "ingester"):
            table.add_column(heading, no_wrap=True)
        table.add_column("remark")
        for fate in fates:
            colour = _COLOURS.get(Status(fate.status), "") if fate.status else ""
            remark = fate.remark
            if fate.surprises:
                remark = f"NOT AS PLANNED: {'; '.join(fate.surprises)}"
            table.add_row(
                literally(escape(fate.sample.path)),
                fate.sample.arrival.value,
                fate.taken_in,
                f"[{colour}]{fate.status}[/]" if colour else fate.status or "-",
                literally(remark),
            )
        self._console.print()
        self._console.print(table)
