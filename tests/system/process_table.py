"""Who runs: read from /proc, since the tests judge the product's own way of looking there too."""

from __future__ import annotations

from pathlib import Path

#: A process: its pid and the time at which it was started, which tells a reused pid apart.
Identity = tuple[int, int]


def read(pid: int) -> tuple[str, int, int] | None:
    """Give state, parent and start time of a process; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return fields[0].decode(), int(fields[1]), int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Tell whether it still runs; a zombie does not."""
    found = read(pid)
    return found is not None and found[2] == started and found[0] not in "ZX"


def pids() -> list[int]:
    """List all processes."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def descendants(pid: int) -> list[Identity]:
    """List what a process has started, and what that has, and so on."""
    table = {other: found for other in pids() if (found := read(other)) is not None}
    known, grown = {pid}, True
    while grown:
        more = {p for p, (_, parent, _) in table.items() if parent in known and p not in known}
        known |= more
        grown = bool(more)
    return [(p, table[p][2]) for p in sorted(known - {pid})]


def name_of(pid: int) -> str:
    """Give the name that ps shows, or '' for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def command_line(pid: int) -> str:
    """Give the command line of a process, or '' for one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def with_environment(entry: str) -> list[int]:
    """List the processes that were started with ``NAME=value`` in their environment."""
    found = []
    for pid in pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        state = read(pid)
        if entry.encode() in environment.split(b"\0") and state and state[0] not in "ZX":
            found.append(pid)
    return found
