"""Fixtures for the tests of benchmarks."""

from __future__ import annotations

import pytest

from tests import servers
from tests.conftest import unavailable


@pytest.fixture
def server() -> str:
    """URL of a PostgreSQL server."""
    url = servers.postgres_url()
    if url is None:
        unavailable("there is no PostgreSQL server")
    return str(url)
