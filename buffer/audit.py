"""Comparing storage areas with the database, both ways, without touching either.

Marks on the files that are found wrong are all that is written; every repair is proposed, and
done by a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from django.db.models import Count, Sum

from buffer.audit_config import Area
from buffer.audit_findings import Finding
from buffer.audit_look import StorageFailed
from buffer.audit_marks import Marks
from buffer.audit_pace import Breath, Stop, Stopped, Subset
from buffer.audit_rows import RowsAudit
from buffer.audit_walk import FilesAudit
from buffer.components import Heartbeat
from buffer.models import ComponentKind, File, FindingKind
from buffer.names import escape
from buffer.problems import ConfigError
from buffer.progress import Amount, Progress
from buffer.storages import NotMounted

#: Seconds between two lines about the progress, which may end up in somebody's mail.
LINE_EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What an audit does.

    Parameters
    ----------
    subset : `Subset`
        Which part of the rows and of the files.
    checksums : `bool`
        Read every file, rather than look at its size.
    mark : `bool`
        Remember in the database what was found.
    max_rate : `float` or `None`
        Bytes that may be read in a second.
    """

    subset: Subset = field(default_factory=Subset)
    checksums: bool = False
    mark: bool = True
    max_rate: float | None = None


@dataclass(slots=True)
class Report:
    """What came of the audit of one storage area.

    Parameters
    ----------
    storage, root : `str`
        Which one; the root is escaped.
    counts : `~collections.Counter` [`str`]
        Findings by kind.
    rows, files, size_bytes, cleared : `int`
        Rows whose file was looked at; files whose row was; bytes that were read; marks that were
        cleared.
    complete : `bool`
        Whether all of it was looked at.
    reached : `str`
        How far it was when it was stopped.
    error : `str`
        Why it could not be done.
    """

    storage: str
    root: str
    counts: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    files: int = 0
    size_bytes: int = 0
    cleared: int = 0
    complete: bool = False
    reached: str = ""
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give it as plain types."""
        return {
            "storage": self.storage,
            "root": self.root,
            "found": {str(kind): self.counts[kind] for kind in FindingKind},
            "rows": self.rows,
            "files": self.files,
            "bytes_read": self.size_bytes,
            "cleared": self.cleared,
            "complete": self.complete,
            "reached": self.reached,
            "error": self.error,
        }


class Audit:
    """Audits one storage area.

    Parameters
    ----------
    area : `Area`
        Which one.
    options : `Options`
        How.
    stop : `Stop`
        Who may ask to stop.
    say : callable
        Takes a line about the progress now and then, where there is no terminal.
    """

    def __init__(
        self, area: Area, options: Options, stop: Stop, say: Callable[[str], object]
    ) -> None:
        self._area, self._options, self._stop, self._say = area, options, stop, say
        self._heart: Heartbeat | None = None
        self.report = Report(area.storage.name, escape(area.root))

    def findings(self) -> Iterator[Finding]:
        """Look at everything, and give what is wrong as it is found.

        `report` is complete afterwards, and says why if the audit is not.
        """
        options = self._options
        if not options.mark:
            yield from self._counted()
            return
        settings = {"subset": str(options.subset), "checksums": options.checksums}
        with Heartbeat.begin(
            ComponentKind.AUDIT, self._area.storage.name, settings=settings
        ) as self._heart:
            yield from self._counted()
            self._heart.beat(counters=self._counters(), now=True)

    def _counted(self) -> Iterator[Finding]:
        report = self.report
        try:
            for finding in self._both_ways():
                report.counts[finding.kind] += 1
                yield finding
            report.complete = True
        except Stopped:
            pass
        except (NotMounted, StorageFailed) as error:
            report.error = str(error)
        except ConfigError as error:
            # The marker of another storage area.
            report.error = "; ".join(error.problems)
        except OSError as error:
            report.error = f"{report.root} cannot be looked at: {error.strerror}"

    def _both_ways(self) -> Iterator[Finding]:
        yield from self._rows()
        yield from self._files()

    def _rows(self) -> Iterator[Finding]:
        """From the database to the storage."""
        options, report, total = self._options, self.report, self._total()
        with Progress(self._say, every_s=LINE_EVERY_S) as progress:

            def tell(last: bool = False) -> None:
                report.rows, report.size_bytes = breath.files, breath.size_bytes
                self._show(progress, Amount(breath.files, breath.size_bytes), total, last)

            breath = Breath(self._stop, options.max_rate, tell)
            marks = Marks(enabled=options.mark)
            rows = RowsAudit(
                self._area, options.subset, reading=options.checksums, marks=marks, breath=breath
            )
            try:
                for finding in rows.findings():
                    progress.clear()
                    yield finding
            except Stopped:
                report.reached = f"at row {rows.at} of {rows.last}"
                raise
            finally:
                report.cleared = rows.cleared
                tell(last=True)

    def _files(self) -> Iterator[Finding]:
        """From the storage to the database."""
        report = self.report
        with Progress(self._say, every_s=LINE_EVERY_S) as progress:

            def tell(last: bool = False) -> None:
                report.files = breath.files
                self._show(progress, Amount(breath.files), None, last)

            breath = Breath(self._stop, None, tell)
            files = FilesAudit(self._area, self._options.subset, breath=breath)
            try:
                for finding in files.findings():
                    progress.clear()
                    yield finding
            except Stopped:
                where = escape(files.at) or "its top"
                report.reached = f"through all rows, and in the directory {where} of the storage"
                raise
            finally:
                tell(last=True)

    def _total(self) -> Amount | None:
        """Count what there is to do, roughly, if anybody watches."""
        if not Progress.is_watched():
            return None
        rows = File.objects.stored().filter(storage=self._area.storage)
        found = rows.aggregate(files=Count("pk"), size_bytes=Sum("size_bytes"))
        parts, read = self._options.subset.parts, self._options.checksums
        size_bytes = (found["size_bytes"] or 0) if read else 0
        return Amount(found["files"] // parts, int(size_bytes) // parts)

    def _show(self, progress: Progress, done: Amount, total: Amount | None, last: bool) -> None:
        progress.show(done, total, last=last)
        if self._heart is not None:
            self._heart.beat(counters=self._counters())

    def _counters(self) -> dict[str, int]:
        report = self.report
        return {
            "rows": report.rows,
            "files": report.files,
            **{kind: number for kind, number in sorted(report.counts.items()) if number},
        }
