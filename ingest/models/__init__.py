"""What became of files at their targets: the present in one row, the past beside it."""

from __future__ import annotations

from ingest.models.events import FileEvent
from ingest.models.ingesters import Breaker, Ingester, Tally
from ingest.models.ingestions import Ingestion, IngestionQuerySet
from ingest.models.requests import IgnoredCause, RerunChunk, RerunJob

__all__ = [
    "Breaker",
    "FileEvent",
    "IgnoredCause",
    "Ingester",
    "Ingestion",
    "IngestionQuerySet",
    "RerunChunk",
    "RerunJob",
    "Tally",
]
