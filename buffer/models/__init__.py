"""What is known of files: where they are stored, what was refused, and who is at work.

Nothing here knows of targets; see `ingest.models` for what became of a file at each of them.
"""

from __future__ import annotations

from buffer.models.alerts import Alert, Condition, Notice
from buffer.models.components import Component, ComponentKind, OperatorPause, OperatorPauseQuerySet
from buffer.models.files import File, Storage
from buffer.models.refusals import TRANSIENT_REASONS, Choice, Decision, Refusal, RefusalReason
from buffer.models.suspicions import FindingKind, Suspicion

__all__ = [
    "TRANSIENT_REASONS",
    "Alert",
    "Choice",
    "Component",
    "ComponentKind",
    "Condition",
    "Decision",
    "File",
    "FindingKind",
    "Notice",
    "OperatorPause",
    "OperatorPauseQuerySet",
    "Refusal",
    "RefusalReason",
    "Storage",
    "Suspicion",
]
