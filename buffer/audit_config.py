"""Which storage areas an audit looks at, and which files in them nobody is expected to record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, ValidationError

from buffer.config import ComponentFile, validate
from buffer.config_errors import COMPONENTS
from buffer.exclusion import PatternList
from buffer.finder_config import Finder, FinderFile, SearchMethod, StandardAction
from buffer.models import Component, ComponentKind, Storage
from buffer.names import escape
from buffer.problems import ConfigError
from buffer.sections import Section
from buffer.values import ExcludePatterns, LocalPath, null_as
from buffer.yamlfile import read

#: Where files are recorded in place, a file is there for a while before its row is.
PATIENCE_S: Final = 3600.0

_RSYNC_LOG: Final = re.compile(r"rsync.*\.log(\.done)?", re.DOTALL)


class _Search(Section):
    """The part of a ``search`` section that says what is left out."""

    model_config = ConfigDict(extra="ignore")

    exclude_list: ExcludePatterns = Field(default_factory=list)


class _Place(Section):
    """The part of a component's section that says where the storage area is."""

    model_config = ConfigDict(extra="ignore")

    storage: LocalPath | None = None
    search: Annotated[_Search, null_as(_Search)] = Field(default_factory=_Search)


class StorageFile(ComponentFile):
    """A component's file, of which only the storage area matters.

    `ingest` knows the rest of an ingester's and a backfill's file, and ``manage.py validate``
    checks it.
    """

    finder: _Place | None = None
    ingester: _Place | None = None
    backfill: _Place | None = None


def load(path: str) -> ComponentFile:
    """Read a finder's, an ingester's or a backfill's file.

    Raises
    ------
    ConfigError
        It cannot be used, or is no such file.
    """
    document = read(path)
    if "finder" in document.data:
        return validate(document, FinderFile)
    config = validate(document, StorageFile)
    if config.ingester is None and config.backfill is None:
        names = f"{', '.join(COMPONENTS[:-1])} or {COMPONENTS[-1]}"
        raise ConfigError(f"{escape(path)}: has no section {names}")
    return config


@dataclass(frozen=True, slots=True)
class Area:
    """A storage area to be audited.

    Parameters
    ----------
    storage : `Storage`
        Its row.
    root : `pathlib.Path`
        Its root as it is mounted here.
    left_out : `list` [callable]
        Each tells by relpath and filename whether nobody is expected to record a file.
    patience_s : `float`
        A file that changed less than so many seconds ago may yet be recorded.
    """

    storage: Storage
    root: Path
    left_out: list[Callable[[str, str], bool]] = field(default_factory=list)
    patience_s: float = 0.0

    def is_left_out(self, relpath: str, filename: str) -> bool:
        """Tell whether nobody is expected to record a file."""
        return any(leaves_out(relpath, filename) for leaves_out in self.left_out)


def areas(config: ComponentFile | None) -> list[Area]:
    """Give the storage area of a file, or all that the database knows.

    Raises
    ------
    ConfigError
        The database has no storage area of this name.
    """
    if config is None:
        return [_area(row, Path(row.root)) for row in Storage.objects.order_by("name")]
    name = config.database.file_table
    storage = Storage.objects.filter(name=name).first()
    if storage is None:
        raise ConfigError(
            f"database.tablenames.file.table: the database has no storage area '{name}': nothing"
            " was recorded under this name yet, or this is another database"
        )
    root, patterns, finder = None, list[str](), None
    if isinstance(config, FinderFile):
        root, finder = config.finder.storage, config.finder
    elif isinstance(config, StorageFile):
        place = config.ingester or config.backfill
        assert place is not None, "`load` requires one"
        root, patterns = place.storage, place.search.exclude_list
    return [_area(storage, root or Path(storage.root), patterns, finder)]


def _area(
    storage: Storage, root: Path, patterns: Iterable[str] = (), finder: Finder | None = None
) -> Area:
    """Add what is known of the finders that record files in place."""
    finders = [*([finder] if finder else []), *_known_finders(storage)]
    in_place = [each for each in finders if each.actions.standard is StandardAction.NOOP]
    everything = [*patterns, *(text for each in in_place for text in each.search.exclude_list)]
    left_out: list[Callable[[str, str], bool]] = []
    if everything:
        left_out.append(_excluded(PatternList(dict.fromkeys(everything))))
    if any(each.search.method is SearchMethod.PARSE_RSYNC_LOGS for each in in_place):
        left_out.append(_is_rsync_log)
    return Area(storage, root, left_out, PATIENCE_S if in_place else 0.0)


def _known_finders(storage: Storage) -> list[Finder]:
    """Give the configurations of this storage area's finders, as they were last started."""
    latest: dict[tuple[str, str], Any] = {}
    for row in Component.objects.filter(kind=ComponentKind.FINDER).order_by("id"):
        latest[row.host, row.subject] = row.settings
    finders = []
    for settings in latest.values():
        try:
            if int(settings["storage"]) == storage.pk:
                finders.append(Finder.model_validate(settings["finder"]))
        except (ValidationError, KeyError, TypeError, ValueError):
            # Of another version; its next start writes it anew.
            continue
    return finders


def _excluded(patterns: PatternList) -> Callable[[str, str], bool]:
    def leaves_out(relpath: str, filename: str) -> bool:
        path = f"{relpath}/{filename}" if relpath else filename
        return patterns.matches(path) is not None

    return leaves_out


def _is_rsync_log(relpath: str, filename: str) -> bool:
    """Tell whether it is a log of rsync, which may lie beside the files that it names."""
    day = relpath.rpartition("/")[2]
    return len(day) == 8 and day.isdigit() and _RSYNC_LOG.fullmatch(filename) is not None
