"""What a command and all that it has started use up, while a test looks on."""

from __future__ import annotations

from pathlib import Path

from tests.system import process_table


class Peak:
    """The most memory that any one process of a family ever had.

    Parameters
    ----------
    pid
        The head of the family.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.bytes = 0

    def look(self) -> bool:
        """Look once, and give True, so that it can stand in a condition."""
        family = [self.pid, *(pid for pid, _ in process_table.descendants(self.pid))]
        self.bytes = max(self.bytes, *(_peak_of(pid) for pid in family))
        return True


def _peak_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)
