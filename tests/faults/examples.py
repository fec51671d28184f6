"""How many examples the fuzzing tests try: a hundred, and 10,000 at night."""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

FUZZING: Final = settings(
    max_examples=10_000 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
