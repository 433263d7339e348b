"""A store that is away for everyone: the run waits for it instead of failing its rows."""

from __future__ import annotations

import time
from collections.abc import Callable

# Batches in a row that the store let come to nothing, after which it counts as away.
SUSPECT = 2
# Seconds between batches that look whether it is there again.
LOOK_EVERY = 10.0


class Outage:
    """What is known of the stores, from the batches that came back.

    Parameters
    ----------
    patience
        Seconds to wait for.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic):
        self._patience, self._clock = patience, clock
        self._in_a_row = 0
        self._since = 0.0
        self._look_at = 0.0
        self.reason: str | None = None

    def met(self, reason: str) -> None:
        """A batch came to nothing because a store did not answer."""
        if self._in_a_row == 0:
            self._since = self._clock()
        self._in_a_row += 1
        self.reason = reason
        self._look_at = self._clock() + min(LOOK_EVERY, self._patience)

    def over(self) -> bool:
        """A batch came through; whether the run had waited for that."""
        waited, self._in_a_row, self.reason = self.waiting, 0, None
        return waited

    @property
    def waiting(self) -> bool:
        """Whether nothing new is to be begun, but to look."""
        return self._in_a_row >= SUSPECT and not self.too_long

    @property
    def too_long(self) -> bool:
        """Whether it was waited for as long as was asked."""
        return self._in_a_row >= SUSPECT and self._clock() - self._since >= self._patience

    def look(self) -> bool:
        """Whether it is time for one batch to look; says so once."""
        if self._clock() < self._look_at:
            return False
        self._look_at = self._clock() + LOOK_EVERY
        return True
