"""Asking the target which of the backfilled files it has."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from django.conf import settings as django_settings
from django.db import transaction
from pydantic import ValidationError

from buffer import steps as protocol
from buffer.board import beat, stopping
from buffer.components import worker_name
from buffer.names import escape
from buffer.problems import ConfigError
from ingest import plugins, transitions
from ingest.backfill import BackfillRun, look_up
from ingest.backfill_files import Stopped
from ingest.config import IngesterSection
from ingest.host_errors import HostDied, IngestRaised, PluginUnavailable
from ingest.models import Ingester, Ingestion
from ingest.plugin_host import PluginHost
from ingest.plugins import PluginConfigError
from ingest.statuses import Status
from ingest.transitions import Step

logger = logging.getLogger(__name__)

NOTE: Final = "verified by backfill"
#: After so many questions that failed, the rest of a chunk is left alone.
MOST_FAILED_QUESTIONS: Final = 12
_NOT_THERE: Final = "the plugin says that the target does not have it"


class CannotVerify(Exception):
    """The target cannot be asked now; trying again later may help."""


def plugin_of(ingester: Ingester) -> tuple[PluginHost, IngesterSection]:
    """Make the host of an ingester's plugin, as the ingester was last started.

    Raises
    ------
    ConfigError
        It was never started, or its plugin is not allowed any more.
    """
    if not ingester.plugin:
        raise ConfigError(
            f"--verify: the ingester '{ingester.name}' was never started, so there is no plugin"
            " to ask: start it once (`manage.py runingester CONFIG --once`), or leave --verify out"
        )
    try:
        section = IngesterSection.model_validate(ingester.settings)
        dotted = plugins.resolve(section.plugin.name, django_settings.INGEST_PLUGINS)
    except PluginConfigError as error:
        raise ConfigError(f"--verify: {error}") from None
    except ValidationError:
        raise ConfigError(
            f"--verify: the settings with which the ingester '{ingester.name}' was last started"
            " are not understood: start it again, then verify"
        ) from None
    return PluginHost(dotted, section.plugin.config), section


def check_plugin(ingester: Ingester) -> None:
    """Load the plugin once, to learn whether it can be asked.

    Raises
    ------
    ConfigError
        It cannot, for what it is or how it is configured.
    CannotVerify
        Its target is not available now.
    """
    host, section = plugin_of(ingester)
    try:
        host.start()
        if not host.has_contains:
            raise ConfigError(
                f"--verify: the plugin {section.plugin.name} of the ingester '{ingester.name}'"
                " cannot tell what its target has (it has no method contains): leave --verify out"
            )
    except PluginConfigError as error:
        raise ConfigError(f"--verify: {error}") from None
    except PluginUnavailable as error:
        raise CannotVerify(str(error)) from None
    finally:
        host.close()


class Verifier:
    """Turns BACKFILL into SUCCESS or FAILURE by asking the plugin, in a host of its own.

    Parameters
    ----------
    run : `BackfillRun`
        For whom.
    """

    def __init__(self, run: BackfillRun) -> None:
        self._run = run
        ingester = Ingester.objects.get(pk=run.ingester_id)
        self._host, section = plugin_of(ingester)
        # As the plugin knows them: the target may have recorded the paths.
        self._root = section.storage or Path(ingester.storage.root)
        self._timeout_s = section.timeout
        self._worker = worker_name()

    def verify(self, paths: Sequence[str], receipt: Callable[[Counter[str]], None]) -> None:
        """Ask about those files that stand at BACKFILL.

        Parameters
        ----------
        paths : `~collections.abc.Sequence` [`str`]
            Below the storage root.
        receipt : callable
            Called with the counters (verified, absent, unanswered) within the transaction that
            makes them true.

        Raises
        ------
        CannotVerify
            The target is not available.
        Stopped
            The workers are to stop.
        """
        known = look_up(self._run.storage_id, self._run.ingester_id, paths)
        path_of = {tracked.file.pk: path for path, tracked in known.items()}
        standing = list(
            Ingestion.objects.filter(
                ingester=self._run.ingester_id,
                file_id__in=path_of,
                status=Status.BACKFILL,
                claim__isnull=True,
            )
        )
        asked = {row.file_id: f"{self._root}/{path_of[row.file_id]}" for row in standing}
        answers = self._ask(list(asked.values()))
        protocol.reached("answers heard")
        steps = [
            self._step(row, there)
            for row in standing
            if (there := answers.get(asked[row.file_id])) is not None
        ]
        with transaction.atomic():
            done = transitions.apply(self._run.ingester_id, steps)
            receipt(
                Counter(
                    verified=sum(step.status == Status.SUCCESS for step in done),
                    absent=sum(step.status == Status.FAILURE for step in done),
                    unanswered=len(standing) - len(steps),
                )
            )
            protocol.reached("receipt of answers written")
        protocol.reached("answers recorded")

    def _step(self, row: Ingestion, there: bool) -> Step:
        return Step(
            ingestion_id=row.pk,
            file_id=row.file_id,
            was=Status.BACKFILL,
            held=None,
            status=Status.SUCCESS if there else Status.FAILURE,
            attempts=row.attempts,
            cause="" if there else _NOT_THERE,
            message="" if there else _NOT_THERE,
            version=self._host.version,
            worker=self._worker,
            note=NOTE,
        )

    def _ask(self, paths: list[str]) -> dict[str, bool]:
        """Ask about all at once; a question that fails is halved, to find the file that does it."""
        answers: dict[str, bool] = {}
        due = deque([paths] if paths else [])
        failures = 0
        while due and failures < MOST_FAILED_QUESTIONS:
            part = due.popleft()
            try:
                self._host.start(_tick)
                there = self._host.contains(part, timeout_s=self._timeout_s, tick=_tick)
            except (PluginConfigError, PluginUnavailable) as error:
                raise CannotVerify(str(error)) from None
            except (HostDied, IngestRaised) as error:
                failures += 1
                logger.warning("plugin %s: contains: %s", self._host.plugin, error)
                if len(part) > 1:
                    middle = len(part) // 2
                    due.extend([part[:middle], part[middle:]])
                continue
            answers.update((path, path in there) for path in part)
        unanswered = len(paths) - len(answers)
        if unanswered:
            logger.error(
                "the plugin %s could not tell of %d files whether its target has them, %s for"
                " one; they stay as they are",
                self._host.plugin,
                unanswered,
                escape(next(path for path in paths if path not in answers)),
            )
        return answers


def _tick() -> None:
    beat()
    if stopping():
        raise Stopped
