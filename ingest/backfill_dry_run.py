"""What a backfill would do now, without doing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from buffer.models import File, Storage
from buffer.names import escape
from buffer.trees import Tree
from ingest.backfill import Tracked, look_up
from ingest.backfill_config import BackfillFile
from ingest.backfill_files import Failed, look_at
from ingest.backfill_loop import Summary, walk
from ingest.backfill_sources import chunks
from ingest.models import Ingester


def rehearse(config: BackfillFile, summary: Summary) -> Iterator[str]:
    """Say for every file what a backfill would do with it. No file is read.

    Parameters
    ----------
    config : `BackfillFile`
        The YAML file.
    summary : `Summary`
        Is filled in.

    Yields
    ------
    line : `str`
        What would be done, a tab, and the path, escaped.
    """
    storage = Storage.objects.filter(name=config.database.file_table).first()
    ingester = Ingester.objects.filter(name=config.name).first()
    way = walk(config)
    with Tree(config.backfill.storage) as tree:
        for chunk in chunks(way.candidates()):
            if chunk is None:
                continue
            paths = [candidate.path for candidate in chunk]
            known: dict[str, Tracked] = {}
            if storage is not None:
                known = look_up(storage.pk, ingester.pk if ingester else 0, paths)
            for path in paths:
                kind, text = _fate(tree, path, known.get(path))
                summary.counters.update(Counter({"found": 1, kind: 1}))
                yield f"{text}\t{escape(path)}"
    summary.unmatched, summary.complete = way.unmatched, True
    if way.excluded:
        summary.counters["excluded"] = way.excluded


def _fate(tree: Tree, path: str, tracked: Tracked | None) -> tuple[str, str]:
    try:
        state = look_at(tree, path)
    except Failed as failed:
        return "failed", f"would fail, {failed.refused.reason}: {failed.refused.detail}"
    if tracked is None:
        return "added", "would be added"
    return _fate_of_tracked(tracked.file, state.st_size)


def _fate_of_tracked(file: File, size_bytes: int) -> tuple[str, str]:
    if file.stored_on is not None and file.size_bytes != size_bytes:
        return "failed", (
            f"would fail, CHANGED_IN_STORAGE: it has {size_bytes} bytes, and {file.size_bytes}"
            " were recorded"
        )
    return "tracked", "tracked"
