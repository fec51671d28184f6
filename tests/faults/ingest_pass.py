"""One pass of an ingester in one process, to be killed anywhere: open, sweep, rerun, work.

The commands do the same in several processes, and when their time has come. Here it is done in an
order that is always the same, so that its steps, statements and system calls can be counted.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

#: Files that are asked for again by whoever runs the pass, once.
AGAIN = "again"
OPERATOR = "operator"


@dataclass(frozen=True)
class Setting:
    """What a pass works on.

    Parameters
    ----------
    ingester_id
        Whose files.
    plugin
        Dotted path of the plugin.
    config
        Its configuration.
    keys
        Other keys of the ``ingester`` section.
    flush_s
        How often outcomes are written, at most; in seconds.
    ahead_s
        How far the database's clock has gone on since the first pass, in seconds.
    """

    ingester_id: int
    plugin: str
    config: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    flush_s: float = 0.0
    ahead_s: float = 0.0


def run(setting: Setting) -> None:
    """Do everything that there is to do; not in a process that goes on to do something else."""
    from django.conf import settings

    from ingest import claims, ledger, pace, sweeping
    from ingest.config import IngesterSection
    from ingest.models import Ingester
    from ingest.opening import Opener
    from ingest.targets import Run
    from ingest.worker import Worker

    set_clock_ahead(setting.ahead_s)
    # Whenever it can be: a renewal at each look at the plugin, and several batches in a claim.
    claims.RENEW_EVERY_S = 0.0
    ledger.FLUSH_EVERY_S = setting.flush_s  # type: ignore[misc]
    ledger.LONGEST_FLUSH_S = setting.flush_s  # type: ignore[misc]
    pace.PLENTY = 0  # type: ignore[misc]
    settings.INGEST_PLUGINS = [setting.plugin]
    ingester = Ingester.objects.get(pk=setting.ingester_id)
    opener = Opener(ingester, "opener")
    while opener.step():
        pass
    opener.sweep()
    sweeping.sweep(ingester.pk, "sweeper")
    assert not claims.anything_held(ingester.pk), "I4: claimed after its lease and a sweep"
    _ask_again(ingester.pk)
    section = IngesterSection.model_validate(
        {"plugin": {"name": setting.plugin, "config": setting.config}, **setting.keys}
    )
    at_work = Run.begin(ingester, section)
    claim = claims.claim(ingester.pk, at_work.lanes(), 1, "changes its mind")
    if claim is not None:
        claims.drop(claim, [claimed.ingestion_id for claimed in claim.files])
    worker = Worker(at_work, stopping=lambda: False, beat=lambda: None)
    try:
        while worker.step():
            pass
    finally:
        worker.close()


def _ask_again(ingester_id: int) -> None:
    from ingest.models import FileEvent, Ingestion
    from ingest.rerun import rerun

    asked = FileEvent.objects.filter(user=OPERATOR).values("file_id")
    rows = Ingestion.objects.filter(ingester=ingester_id, file__filename__startswith=AGAIN)
    rerun(rows.exclude(file_id__in=asked), user=OPERATOR)


def set_clock_ahead(seconds: float) -> None:
    """Set the clock of the database, as claims see it, for the rest of this process."""
    from django.db.models import DateTimeField
    from django.db.models.expressions import RawSQL

    from buffer import dialect
    from ingest import sweeping

    plainly = dialect.now_plus
    dialect.now = lambda: plainly(seconds)
    dialect.now_plus = lambda more: plainly(seconds + more)
    sweeping.Now = lambda: RawSQL(dialect.now(), (), output_field=DateTimeField())  # type: ignore[misc, assignment]


def command_line(setting: Setting) -> list[str]:
    """Give the command of a pass in a process of its own."""
    return [sys.executable, "-m", __name__, json.dumps(asdict(setting))]


if __name__ == "__main__":
    import django

    django.setup()
    run(Setting(**json.loads(sys.argv[1])))
