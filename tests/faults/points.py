"""Points at which a process in a test can die, or the world around it can change.

A point is a step of a protocol (`buffer.steps`), a statement to the database, or a call of a
plugin. What dies there is the product's code, not the process: nothing may catch it, nor undo
anything on its way out, as nothing does after a SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from buffer import steps

Execute = Callable[..., Any]


class Killed(BaseException):
    """The product's code ends here, as by SIGKILL."""


class Points:
    """Counts the points that are passed, and acts at one of them."""

    def __init__(self) -> None:
        self._left = 0
        self._action: Callable[[], None] | None = None
        self.dead = False
        #: Where it acted; '' if it has not.
        self.acted_at = ""

    def reached(self, name: str) -> None:
        """Pass a point."""
        if self.dead:
            raise Killed(name)
        # Nobody else comes in between two points of one transaction, which is on our connection.
        alone = self._action is not None and connection.in_atomic_block
        if alone or not self._left:
            return
        self._left -= 1
        if self._left:
            return
        self.acted_at = name
        if self._action is not None:
            self._action()
            return
        self.dead = True
        raise Killed(name)

    @contextlib.contextmanager
    def armed(self, number: int, action: Callable[[], None] | None = None) -> Iterator[None]:
        """Act at the n-th point from here; 0: never.

        Parameters
        ----------
        number
            Which point.
        action
            What to do; None: die.
        """
        self._left, self._action, self.acted_at = number, action, ""
        try:
            yield
        except Killed:
            assert self.dead
        finally:
            self._left, self.dead = 0, False

    @contextlib.contextmanager
    def others(self) -> Iterator[None]:
        """What is done here is done by somebody else: its points do not count."""
        left, self._left = self._left, 0
        try:
            yield
        finally:
            self._left = left

    @contextlib.contextmanager
    def watching(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Have the product pass its points."""
        unlink = os.unlink

        def unlink_if_alive(*args: Any, **kwargs: Any) -> None:
            if not self.dead:
                unlink(*args, **kwargs)

        def statement(execute: Execute, sql: str, *args: Any) -> Any:
            # Of a transaction that is broken off, the connection itself undoes the savepoints.
            if not sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK")):
                self.reached(" ".join(sql.split())[:60])
            return execute(sql, *args)

        monkeypatch.setattr(steps, "reached", self.reached)
        monkeypatch.setattr(os, "unlink", unlink_if_alive)
        with connection.execute_wrapper(statement):
            yield
