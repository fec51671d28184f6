"""How hard Hypothesis tries: quickly and always alike, or ten times as long and at random.

``HYPOTHESIS_PROFILE`` chooses ``default`` or ``nightly``.
"""

from __future__ import annotations

import os
from typing import Any, Final

from hypothesis import HealthCheck, Phase, settings

#: How many times more examples the nightly profile has.
NIGHTLY: Final = 10


def register() -> None:
    """Register the profiles and load the chosen one."""
    common: dict[str, Any] = {
        "deadline": None,
        "print_blob": True,
        "report_multiple_bugs": False,
        "suppress_health_check": list(HealthCheck),
        # Explaining takes hundreds of runs more, and these runs are long.
        "phases": [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    }
    # A run of all tests proves nothing new; it must not fail by chance on somebody else's change.
    settings.register_profile("default", **common, derandomize=True, database=None)
    settings.register_profile("nightly", **common, max_examples=100 * NIGHTLY)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "default")


def examples(count: int, nightly: int | None = None) -> int:
    """Give the number of examples of a test that has `count` of them by default.

    At night it has `nightly`, or ten times as many.
    """
    if os.environ.get("HYPOTHESIS_PROFILE") != "nightly":
        return count
    return count * NIGHTLY if nightly is None else nightly
