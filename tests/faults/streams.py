"""Work that goes on while the processes that do it are hurt: of a finder, and of backfill."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.faults.crew import FROZEN_S
from tests.system.product import Command, Product

OLD_FILES = 4000


class Stream:
    """Files that land one after the other, and how long they had to wait.

    Parameters
    ----------
    product
        The product.
    finder
        Its finder, which runs.
    """

    def __init__(self, product: Product, finder: Command) -> None:
        self.product, self.finder = product, finder
        self.sent: dict[str, bytes] = {}
        self.longest_s = 0.0

    def land(self, count: int = 1) -> None:
        """Let files land."""
        for _ in range(count):
            name = f"night/{len(self.sent):05d}.fits"
            self.sent[name] = os.urandom(300)
            self.product.land(name, self.sent[name])

    def until_stored(self) -> None:
        """Wait until all are stored."""
        landed = time.monotonic()
        self.product.wait(lambda: self.product.stored() == len(self.sent), "taken in", 2 * FROZEN_S)
        self.longest_s = max(self.longest_s, time.monotonic() - landed)

    def check(self) -> None:
        """Check that each is stored as it was sent, and that nothing is left."""
        assert self.product.files_in(self.product.storage) == self.sent
        assert self.product.files_in(self.product.buffer) == {}
        assert self.product.value("SELECT count(*) FROM buffer_file") == len(self.sent)
        assert self.product.value("SELECT count(*) FROM buffer_refusal") == 0
        assert not list((self.product.storage / ".incoming").glob("*")), "copies are left over"
        self.product.check_at_rest()
        assert self.longest_s < FROZEN_S


def old_storage(product: Product) -> Path:
    """Fill the storage area as if it had been there before; give backfill's YAML file."""
    for number in range(OLD_FILES):
        path = product.storage / "old" / f"{number % 50}" / f"{number:05d}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(1000))
    return product.write(
        "backfill.yaml",
        {
            "database": product.database("file_events"),
            "backfill": {"storage": str(product.storage), "sources": ["old"]},
        },
    )


class Backfill:
    """Looks at a run of backfill while it is hurt.

    Parameters
    ----------
    product
        The product.
    command
        The run.
    """

    def __init__(self, product: Product, command: Command) -> None:
        self.product, self.command = product, command
        self.longest_s = 0.0
        self._done, self._moved_at = 0, time.monotonic()

    def look(self) -> int:
        """Count what is done; note for how long it has not become more."""
        now = time.monotonic()
        done = int(self.product.value("SELECT count(*) FROM ingest_ingestion"))
        self.longest_s = max(self.longest_s, now - self._moved_at)
        if done != self._done:
            self._done, self._moved_at = done, now
        assert self.longest_s < 3 * FROZEN_S, f"{done} files\n{self.product.report()}"
        return done

    def until_done(self, count: int) -> None:
        """Wait until so many files are done, or the run has ended."""
        while self.command.running and self.look() < count:
            time.sleep(0.02)

    def check(self) -> None:
        """Wait for the end, and check that each file is recorded once and nobody is left."""
        while self.command.running:
            self.look()
            time.sleep(0.05)
        assert f"{OLD_FILES} added" in self.command.ends().succeeded()
        assert self.product.statuses() == {"BACKFILL": OLD_FILES}
        assert self.product.value("SELECT count(*) FROM buffer_file") == OLD_FILES
        assert self.product.left_over() == []
        assert self.longest_s < FROZEN_S
