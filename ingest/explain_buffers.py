"""What lies in the buffers that finders watch, and why it is not taken in yet."""

from __future__ import annotations

import os
import socket
import stat as stat_module
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from buffer import dialect, operator_pauses, shown
from buffer.components import is_live
from buffer.exclusion import PatternList
from buffer.finder_config import Finder as FinderSection
from buffer.finder_config import SearchMethod
from buffer.models import Component, ComponentKind
from buffer.names import escape, is_temporary, why_bad
from buffer.operator_pauses import Pausable


@dataclass(frozen=True, slots=True)
class Finder:
    """The last known run of the finder of one source."""

    section: FinderSection
    storage_id: int
    host: str
    live: bool
    component: Component

    @property
    def root(self) -> str:
        """Directory in which its files appear; for logs of rsync they are in storage already."""
        logs = self.section.search.method is SearchMethod.PARSE_RSYNC_LOGS
        return str(self.section.storage if logs else self.section.source)


@dataclass(frozen=True, slots=True)
class BufferFacts:
    """What one buffer holds at the path in question."""

    source: str
    path: str
    finder: str
    exists: bool
    conclusion: str


def known_finders() -> list[Finder]:
    """Give the last run of each source that is known (a week back), in order of their sources."""
    rows = Component.objects.filter(kind=ComponentKind.FINDER).order_by("id")
    latest = {(row.host, row.subject): row for row in rows}
    now = dialect.clock()
    finders = []
    for (host, _), row in sorted(latest.items()):
        try:
            section = FinderSection.model_validate(row.settings["finder"])
            storage_id = int(row.settings["storage"])
        except (ValidationError, KeyError, TypeError, ValueError):
            # Of another version; its next start writes it anew.
            continue
        finders.append(Finder(section, storage_id, host, is_live(row, now), row))
    return finders


def look(finder: Finder, relative: str, *, stored: bool | None, refused: bool) -> BufferFacts:
    """Look at one path of a buffer, and tell why it is not taken in.

    Parameters
    ----------
    finder : `Finder`
        Whose buffer.
    relative : `str`
        Path below it.
    stored : `bool` or `None`
        Whether a file of that place is stored; None if there is none, False while it is taken in.
    refused : `bool`
        Whether a refusal of it stands.
    """
    row = finder.component
    run = f"finder {row.pk} on {row.host}"
    if finder.live:
        run += " is running"
    elif row.stopped_on is not None:
        run += f" was stopped {row.stopped_on:%Y-%m-%d %H:%M:%S} UTC"
    else:
        run += f" was last heard of {row.seen_on:%Y-%m-%d %H:%M:%S} UTC"
    found, conclusion = _state(finder, relative, stored=stored, refused=refused)
    return BufferFacts(
        source=escape(finder.section.source),
        path=escape(os.path.join(finder.root, relative)),
        finder=run,
        exists=found,
        conclusion=conclusion,
    )


def _state(
    finder: Finder, relative: str, *, stored: bool | None, refused: bool
) -> tuple[bool, str]:
    by_name = _why_not_by_name(finder, relative)
    try:
        stat = os.lstat(Path(finder.root, relative))
    except (FileNotFoundError, NotADirectoryError):
        if finder.host != socket.gethostname() and not os.path.isdir(finder.root):
            return False, f"this host does not see the buffer; ask on {finder.host}"
        return False, "nothing of this name is there" + (f" ({by_name})" if by_name else "")
    except (OSError, ValueError) as error:
        return False, f"it cannot be looked at: {getattr(error, 'strerror', None) or error}"
    if stat_module.S_ISDIR(stat.st_mode):
        return True, "it is a directory; name a file in it"
    if stored and os.path.samefile(finder.section.source, finder.section.storage):
        return True, "it is recorded where it is"
    if by_name:
        return True, by_name
    if not stat_module.S_ISREG(stat.st_mode):
        return True, "it is not a regular file (a link, FIFO, socket or device), so it is refused"
    if refused:
        return True, "it is refused; see the refusal"
    return True, _waits_for(finder, stat, stored=stored)


def _why_not_by_name(finder: Finder, relative: str) -> str:
    directory, _, name = relative.rpartition("/")
    search = finder.section.search
    if is_temporary(directory, name):
        return "its name is one that writers give to unfinished files, so it is passed over"
    if (pattern := PatternList(search.exclude_list).matches(relative)) is not None:
        return f"it is left out by finder.search.exclude_list: {escape(pattern)}"
    if (bad := why_bad(directory, name)) is not None:
        return f"its name is refused: {bad}"
    return ""


def _waits_for(finder: Finder, stat: os.stat_result, *, stored: bool | None) -> str:
    section = finder.section
    if not finder.live:
        return "no finder is running for this buffer; start it with manage.py runfinder"
    if (paused := Pausable.of(finder.component)) and (why := operator_pauses.look(paused)):
        resume = f"manage.py resume --finder {escape(finder.component.subject)}"
        return f"the finder is {why}; {resume} lets it go on"
    if finder.component.message:
        return f"the finder cannot take anything in now: {shown.message(finder.component.message)}"
    if section.search.method is SearchMethod.PARSE_RSYNC_LOGS:
        return "it is recorded when a log of rsync names it"
    age = time.time() - stat.st_ctime
    if age < section.search.delay_s:
        return (
            f"it changed {max(age, 0):.0f} s ago and is taken in when it was quiet for"
            f" {section.search.delay_s:g} s"
        )
    if stored:
        return "a file of this place is stored; the finder compares them in its next cycle"
    return "it is due: the finder takes it in with one of its next cycles"
