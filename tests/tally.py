"""A table of what the tests of faults have injected and found, at the end of a run.

A test says so by its ``tally``; a line of the table is a fault, however many tests inject it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

_PROPERTY = "fault"


@dataclass(frozen=True)
class Line:
    """One fault.

    Parameters
    ----------
    fault
        What went wrong, in a few words; with the kind of database or file system where it matters.
    injected
        How often.
    heal_s
        The longest time that anything took to be right again, in seconds; 0 where it was at the
        next start or at once.
    note
        What else was counted.
    """

    fault: str
    injected: int
    heal_s: float = 0.0
    note: str = ""


Tally = Callable[..., None]


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    """Say what a test has injected: the arguments are those of `Line`."""

    def say(fault: str, injected: int, heal_s: float = 0.0, note: str = "") -> None:
        record_property(_PROPERTY, asdict(Line(fault, injected, heal_s, note)))

    return say


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, and append it to the file that ``FAULTS_TABLE`` names."""
    if hasattr(terminalreporter.config, "workerinput"):
        return  # The process that distributes the tests tells of all of them.
    lines = [
        Line(**value)
        for kind in ("passed", "failed")
        for report in terminalreporter.stats.get(kind, [])
        for name, value in getattr(report, "user_properties", [])
        if name == _PROPERTY
    ]
    if not lines:
        return
    table = [_summed([line for line in lines if line.fault == fault]) for fault in _faults(lines)]
    terminalreporter.section("faults injected")
    width = max(len(line.fault) for line in table)
    for line in table:
        heal = f"{line.heal_s:6.1f} s" if line.heal_s else "        "
        terminalreporter.write_line(
            f"{line.fault:{width}}  {line.injected:6d}  {heal}  {line.note}".rstrip()
        )
    if path := os.environ.get("FAULTS_TABLE"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(asdict(line))}\n" for line in table)


def _faults(lines: list[Line]) -> list[str]:
    return sorted({line.fault for line in lines})


def _summed(lines: list[Line]) -> Line:
    notes = dict.fromkeys(line.note for line in lines if line.note)
    return Line(
        lines[0].fault,
        sum(line.injected for line in lines),
        max(line.heal_s for line in lines),
        "; ".join(notes),
    )
