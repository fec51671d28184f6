"""Benchmarks as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent


def run(module: str, *arguments: str, ground: Path, server: str = "", most: int = 0) -> str:
    """Run a benchmark; give what it says.

    Parameters
    ----------
    module
        Its name below `benchmarks`.
    arguments
        Of its command line.
    ground
        Directory of its data.
    server
        URL of the PostgreSQL server.
    most
        Highest exit status that is expected.
    """
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    environment |= {"BENCH_DIR": str(ground), "BENCH_POSTGRES_URL": server}
    ran = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=TOP, env=environment, timeout=120, capture_output=True, text=True,
    )  # fmt: skip
    assert 0 <= ran.returncode <= most, ran.stdout + ran.stderr
    return ran.stdout
