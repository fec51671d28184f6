"""The rows that benchmarks give: judged, kept as lines of JSON, and shown as a table."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Result:
    """One row: what the rounds gave, and what they should have.

    Parameters
    ----------
    what : `str`
        What was done.
    unit : `str`
        Of the values.
    ours, ideal : `list` [`float`]
        A value of each round; no `ideal`: the values are judged themselves.
    at_least, at_most : `float`, optional
        The target: of the ratio ours / ideal, or of the value.
    """

    what: str
    unit: str
    ours: list[float]
    ideal: list[float] = field(default_factory=list)
    at_least: float | None = None
    at_most: float | None = None
    database: str = ""
    bench: str = ""
    quick: bool = False
    when: str = ""
    load: float = 0.0

    @property
    def judged(self) -> list[float]:
        """What the target is about, round by round: ratios, or the values."""
        if not self.ideal:
            return self.ours
        return [ours / ideal for ours, ideal in zip(self.ours, self.ideal, strict=True)]

    @property
    def reached(self) -> bool | None:
        """Whether the target was reached; None where there is none."""
        if self.at_least is None and self.at_most is None:
            return None
        median = statistics.median(self.judged)
        enough = self.at_least is None or median >= self.at_least
        return enough and (self.at_most is None or median <= self.at_most)


def read(path: Path) -> list[Result]:
    """Read the rows of a file."""
    if not path.exists():
        return []
    return [Result(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def count(path: Path) -> int:
    """Tell how many rows a file has, to find those that follow."""
    return len(read(path))


def add(path: Path, results: Iterable[Result]) -> None:
    """Add rows to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(asdict(row))}\n" for row in results)


def show(results: Iterable[Result]) -> None:
    """Print a table: medians, and in brackets the least and the greatest of the rounds."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(caption="median (least .. greatest of the rounds)")
    for title in ("benchmark", "what", "database", "ours", "ideal", "ratio", "target", ""):
        table.add_column(title)
    for row in results:
        target = f">= {row.at_least:g}" if row.at_least is not None else ""
        target += f"<= {row.at_most:g}" if row.at_most is not None else ""
        table.add_row(
            row.bench, row.what, row.database, f"{_spread(row.ours)} {row.unit}",
            f"{_spread(row.ideal)} {row.unit}" if row.ideal else "",
            _spread(row.judged) if row.ideal else "", target,
            {True: "reached", False: "missed", None: ""}[row.reached],
        )  # fmt: skip
    console.print(table)


def _spread(values: list[float]) -> str:
    median = f"{statistics.median(values):,.4g}" if values else ""
    return f"{median} ({min(values):,.3g} .. {max(values):,.3g})" if len(values) > 1 else median
