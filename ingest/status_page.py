"""The state of everything as a page of text, for `manage.py status`."""

from __future__ import annotations

import io
import shutil
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest.states import IngesterState, Overview
from ingest.statuses import NEEDS_A_PERSON, Status


def page(state: Overview, *, terminal: bool) -> str:
    """Write it down, as wide as the terminal; elsewhere, where there is no edge, as it needs."""
    text = io.StringIO()
    console = Console(
        file=text,
        force_terminal=terminal,
        width=shutil.get_terminal_size().columns if terminal else 200,
        highlight=False,
    )
    for table in tables(state):
        console.print(table)
    for line in lines(state):
        console.print(Text(line))
    return text.getvalue()


def tables(state: Overview) -> list[Table]:
    """Give what is shown as tables, those left out that would be empty."""
    ingesters = Table(title="Ingesters", title_justify="left")
    for name in ("ingester", "plugin", "live"):
        ingesters.add_column(name)
    shown = [s for s in Status if s not in (Status.UNTRIED, Status.RERUN, Status.PENDING)]
    for name in ("waiting", "held", "retrying", *(status.value for status in shown)):
        ingesters.add_column(name, justify="right")
    ingesters.add_column("oldest waiting")
    for one in state.ingesters:
        numbers = [(one.waiting, ""), (one.held, ""), (one.retries, "")]
        numbers += [(one.counts.get(s, 0), "red" if s in NEEDS_A_PERSON else "") for s in shown]
        ingesters.add_row(
            Text(one.name),
            Text(one.plugin or "never started"),
            _at_work(one),
            *(Text(str(number), style if number else "dim") for number, style in numbers),
            Text(_ago(one.oldest_waiting, state.at)),
        )
    tables = [ingesters]
    if state.components:
        components = Table(title="Components", title_justify="left")
        for name in ("component", "works for", "host", "pid", "last heard of", "message"):
            components.add_column(name)
        for row in state.components:
            seen = _ago(row.seen_on, state.at)
            components.add_row(
                Text(row.kind),
                Text(row.subject),
                Text(row.host),
                str(row.pid),
                Text(seen) if row.live else Text(f"{seen}: SILENT", "red"),
                Text(row.message),
            )
        tables.append(components)
    if state.refusals:
        refusals = Table(title="Open refusals", title_justify="left")
        refusals.add_column("reason")
        refusals.add_column("files", justify="right")
        refusals.add_column("oldest")
        for refusal in state.refusals:
            refusals.add_row(
                refusal.reason, str(refusal.count), Text(_ago(refusal.oldest, state.at))
            )
        tables.append(refusals)
    if state.suspects:
        suspects = Table(title="Suspect files", title_justify="left")
        suspects.add_column("found by an audit")
        suspects.add_column("files", justify="right")
        suspects.add_column("oldest")
        for suspect in state.suspects:
            suspects.add_row(suspect.kind, str(suspect.count), Text(_ago(suspect.oldest, state.at)))
        tables.append(suspects)
    return tables


def lines(state: Overview) -> list[str]:
    """Give what is said in sentences below the tables."""
    found = [
        f"ALERT {row.kind} {row.subject}: {row.detail} (raised {_ago(row.since, state.at)})"
        for row in state.alerts
    ]
    if not state.ingesters:
        found.append("No ingester is known yet: start one with manage.py runingester.")
    if not state.components:
        found.append("No component is running.")
    if not state.refusals:
        found.append("No open refusals.")
    if state.intents:
        found.append(f"{state.intents} files are being taken in.")
    found += [
        f"{row.kind} {row.subject}{f' on {row.host}' if row.host else ''}: {row.text}"
        for row in state.operator_pauses
    ]
    found += [
        f"{row.kind} {row.subject} on {row.host}: a copy of a lost arrival is kept in the storage"
        f" area as {path}"
        for row in state.components
        for path in row.kept
    ]
    for one in state.ingesters:
        if one.pause is not None:
            found.append(f"{one.name}: {one.pause}; {one.pause.next}")
        found += [f"{one.name}: {message}" for message in one.messages]
    return found


def _at_work(one: IngesterState) -> Text:
    if not one.live:
        return Text("no", "red" if one.waiting else "")
    if one.held_back:
        return Text("paused", "yellow")
    return Text("yes") if one.pause is None else Text("paused", "red")


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return ""
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
