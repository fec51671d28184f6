"""What an audit finds, and what it proposes to do about it. It never does anything itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from buffer.audit_config import Area
from buffer.models import File, FindingKind
from buffer.names import escape


@dataclass(frozen=True, slots=True)
class Trouble:
    """In what way a file is not what its row says."""

    kind: FindingKind
    detail: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A disagreement of storage and database.

    Parameters
    ----------
    kind : `FindingKind`
        Of which sort.
    storage : `str`
        Name of the storage area.
    path : `str`
        Path below its root, escaped.
    file_id : `int` or `None`
        The row, if there is one.
    detail : `str`
        What is wrong.
    proposal : `str`
        What a person can do.
    """

    kind: FindingKind
    storage: str
    path: str
    file_id: int | None
    detail: str
    proposal: str

    def __str__(self) -> str:
        row = "no row" if self.file_id is None else f"file {self.file_id}"
        return f"{self.kind} {self.path} ({row}, storage {self.storage}): {self.text}"

    @property
    def text(self) -> str:
        """What is wrong and what to do, in a sentence."""
        return f"{self.detail}; {self.proposal}"

    def as_json(self) -> dict[str, Any]:
        """Give it as plain types."""
        return {
            "kind": str(self.kind),
            "storage": self.storage,
            "path": self.path,
            "file": self.file_id,
            "detail": self.detail,
            "proposal": self.proposal,
        }


def of_row(area: Area, file: File, trouble: Trouble) -> Finding:
    """Make the finding about a recorded file."""
    path = escape(file.path)
    return Finding(
        trouble.kind,
        area.storage.name,
        path,
        file.pk,
        trouble.detail,
        proposal(trouble.kind, escape(file.path_below(area.root))),
    )


def of_file(area: Area, path: str, bad_name: str | None) -> Finding:
    """Make the finding about a file in storage that has no row."""
    detail = "it lies in storage and has no row"
    whole = escape(f"{area.root}/{path}")
    if bad_name is not None:
        detail += f", and cannot have one as it is called: {bad_name}"
        remedy = f"rename or remove {whole} by hand"
    else:
        remedy = (
            f"find out where it is from; then record it by `manage.py backfill` with this path"
            f" among backfill.sources, or remove {whole} by hand"
        )
    return Finding(FindingKind.UNTRACKED, area.storage.name, escape(path), None, detail, remedy)


def of_directory(area: Area, path: str, reason: str) -> Finding:
    """Make the finding about something whose files cannot be compared with the rows."""
    return Finding(
        FindingKind.UNREADABLE,
        area.storage.name,
        escape(path) or "/",
        None,
        f"it cannot be looked through ({reason}), so that files without a row would not be seen",
        "see the kernel's log, and owner and permissions; then audit again",
    )


def proposal(kind: FindingKind, whole: str) -> str:
    """Say what a person can do about a recorded file; `whole` is its absolute path, escaped."""
    match kind:
        case FindingKind.MISSING:
            return f"restore {whole} from a backup; if it arrives again, the finder puts it back"
        case FindingKind.CHANGED:
            return (
                f"compare {whole} with a backup and put the right one in its place; if it arrives"
                " again, the finder sets this one aside and puts the right one there"
            )
        case FindingKind.NOT_REGULAR:
            return f"find out who put it there, then restore {whole} from a backup"
        case FindingKind.UNREADABLE:
            return (
                f"nothing is known of its content: see the kernel's log, and owner and permissions"
                f" of {whole}; then audit again"
            )
        case FindingKind.DUPLICATE:
            return (
                "two finders took in one content at the same moment, or somebody made the row: both"
                " files are stored and ingested as they are; leave them, or remove one of the two"
                " files and its row, by SQL after the rows that refer to it"
            )
        case FindingKind.UNTRACKED:
            return f"record {whole} by `manage.py backfill`, or remove it by hand"
    raise AssertionError(kind)
