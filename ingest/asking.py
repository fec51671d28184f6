"""Asking a plugin which files its target has, when that may go wrong."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from buffer.names import escape
from ingest.host_errors import HostDied, IngestRaised
from ingest.plugin_host import PluginHost

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Answers:
    """What the target has.

    Parameters
    ----------
    there : `dict` [`str`, `bool` or `None`]
        For each path; None where the question failed.
    failures : `list` [`str`]
        How questions failed.
    """

    there: dict[str, bool | None]
    failures: list[str] = field(default_factory=list)


def ask(
    host: PluginHost,
    paths: Sequence[str],
    *,
    timeout_s: float,
    tick: Callable[[], None] | None,
    most_failures: int,
) -> Answers:
    """Ask about files together; if that fails one by one.

    The file that killed the plugin may well do so again when it is only looked at.

    Parameters
    ----------
    host : `PluginHost`
        Of a plugin that has ``contains``; started as needed, and again after it died.
    paths : `~collections.abc.Sequence` [`str`]
        Absolute paths.
    timeout_s : `float`
        Deadline of a question; seconds.
    tick : callable or `None`
        Called at least every 0.25 s meanwhile; what it raises goes through.
    most_failures : `int`
        After so many failed questions nothing more is asked.

    Raises
    ------
    ingest.plugins.base.PluginConfigError, ingest.host_errors.PluginUnavailable
        The plugin could not be loaded (again).
    """
    answers = Answers(dict.fromkeys(paths))
    due = deque([list(paths)] if paths else [])
    while due and len(answers.failures) < most_failures:
        asked = due.popleft()
        host.start(tick)
        try:
            there = host.contains(asked, timeout_s=timeout_s, tick=tick)
        except (HostDied, IngestRaised) as error:
            what = escape(asked[0]) if len(asked) == 1 else f"{len(asked)} files"
            logger.warning("plugin %s: contains of %s: %s", host.plugin, what, error)
            answers.failures.append(str(error))
            if len(asked) > 1:
                due.extend([path] for path in asked)
            continue
        answers.there.update((path, path in there) for path in asked)
    return answers
