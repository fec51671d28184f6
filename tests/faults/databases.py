"""On which databases a test of the commands runs.

`make faults` takes both. `make test` takes the one where the fault hurts more, or by turns.
"""

from __future__ import annotations

from typing import Final

import pytest


def _first(one: str, other: str) -> pytest.MarkDecorator:
    values = [one, pytest.param(other, marks=pytest.mark.full)]
    return pytest.mark.parametrize("database", values, indirect=True)


sqlite_first: Final = _first("sqlite", "postgresql")
postgresql_first: Final = _first("postgresql", "sqlite")
