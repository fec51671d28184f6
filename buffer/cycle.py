"""What one cycle of a finder came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle came to.

    Parameters
    ----------
    done : `int`
        Arrivals that are accounted for now and were not before.
    waiting : `int`
        Arrivals that are not settled yet.
    complete : `bool`
        The whole source was looked through, or, for ``watch``, all that changed in it.
    blocked : `str`
        Why nothing can be taken in for now; '' if it can.
    """

    done: int
    waiting: int
    complete: bool
    blocked: str = ""

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to do until something arrives."""
        return self.complete and not self.done and not self.waiting and not self.blocked
