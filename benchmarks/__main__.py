"""``python -m benchmarks [NAME ...]``: run all benchmarks, or some, one after another."""

from __future__ import annotations

import argparse
import pkgutil
import subprocess
import sys

import benchmarks
from benchmarks.harness import add_options
from benchmarks.rows import count, read, show

NAMES = sorted(
    module.name
    for module in pkgutil.iter_modules(benchmarks.__path__)
    if module.name.startswith(
        ("arrival_", "backfill_", "finder_", "idle_", "ingester_", "workers_")
    )
)


def main() -> None:
    """Run them, each in a process of its own, and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(NAMES)}")
    add_options(parser)
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark: {' '.join(sorted(unknown))}")
    passed = ["--quick"] * options.quick + ["--json", str(options.json)]
    if options.rounds:
        passed += ["--rounds", str(options.rounds)]
    for database in options.database or ():
        passed += ["--database", database]
    begun = count(options.json)
    failed = [
        name
        for name in options.names or NAMES
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *passed]).returncode
    ]
    show(read(options.json)[begun:])
    if failed:
        sys.exit(f"failed: {' '.join(failed)}")


if __name__ == "__main__":
    main()
