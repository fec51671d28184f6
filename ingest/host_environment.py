"""What of this program's environment a plugin's process gets, and what it does not."""

from __future__ import annotations

import os
from pathlib import Path

from ingest.host_protocol import TOKEN_VARIABLE

#: Secrets of this program that no plugin has any use for.
HIDDEN_VARIABLES = (
    "ALERT_WEBHOOK",
    "ALERT_WEBHOOK_KEY",
    "DATABASE_URL",
    "EMAIL_URL",
    "METRICS_TOKEN",
    "Q_BROKER_URL",
    "SECRET_KEY",
)

_ROOT = str(Path(__file__).resolve().parent.parent)


def environment(token: str) -> dict[str, str]:
    """Give the environment of a plugin's process.

    Parameters
    ----------
    token : `str`
        Marks the process and all that it starts, so that they can be found and ended.
    """
    env = {name: value for name, value in os.environ.items() if name not in HIDDEN_VARIABLES}
    path = env.get("PYTHONPATH")
    if path is not None:
        # The child gives it back to the plugin; until then nothing may hide our own modules.
        env["ENDPOINT_PLUGIN_PYTHONPATH"] = path
    env["PYTHONPATH"] = f"{_ROOT}{os.pathsep}{path}" if path else _ROOT
    env[TOKEN_VARIABLE] = token
    return env
