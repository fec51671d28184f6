"""The broker that keeps wake-ups in the database, by the database's clock.

django-q2's own compares times of the hosts' clocks: where the host that sends is an hour ahead of
the one that works, each wake-up waits for an hour, and so does everything after a clock was set
back.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django_q.brokers.orm import ORM
from django_q.conf import Conf

from buffer import dialect

#: Of what nobody has fetched: past by every clock, whatever it is set to.
_FREE: Final = datetime(2000, 1, 1, tzinfo=UTC)


class DatabaseBroker(ORM):  # type: ignore[misc]
    """django-q2's broker for the database, with one clock for all hosts."""

    def timeout(self, task: Any) -> datetime:
        """Say until when a fetched task is nobody else's."""
        return dialect.clock() + timedelta(seconds=Conf.RETRY)

    def queue_size(self) -> int:
        """Count what can be fetched."""
        rows = self.get_connection().filter(key=self.list_key, lock__lte=dialect.clock())
        return int(rows.count())

    def lock_size(self) -> int:
        """Count what is fetched and not acknowledged."""
        rows = self.get_connection().filter(key=self.list_key, lock__gt=dialect.clock())
        return int(rows.count())

    def enqueue(self, task: Any) -> int:
        """Add a task."""
        key = self.list_key or Conf.CLUSTER_NAME
        row = self.get_connection().create(key=key, payload=task, lock=_FREE)
        return int(row.pk)

    def dequeue(self) -> list[tuple[int, Any]]:
        """Fetch what nobody else has; if there is nothing, wait a little."""
        rows = self.get_connection()
        waiting = rows.filter(key=self.list_key, lock__lt=dialect.clock())[: Conf.BULK]
        fetched = [
            (row.pk, row.payload)
            for row in waiting
            # Another host may have been faster.
            if rows.filter(pk=row.pk, lock=row.lock).update(lock=self.timeout(row))
        ]
        if not fetched:
            time.sleep(Conf.POLL)
        return fetched
