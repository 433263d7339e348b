"""Whose turn it is at the device: one batch at a time, of those that are ready the one that came first."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Withdrawn(Exception):
    """The batch is somebody else's by now."""


class Turns:
    """Hands the device round, and keeps account of how long it was busy and how long it waited.

    Attributes
    ----------
    busy, idle
        Seconds, from the first turn on.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._numbers: dict[str, int] = {}
        self._ready: set[str] = set()
        self._withdrawn: set[str] = set()
        self._last = 0
        self._holder: str | None = None
        self._since: float | None = None
        self._working = False
        self.busy = self.idle = 0.0
        self._told = (0.0, 0.0)

    def news(self) -> tuple[float, float]:
        """Seconds (busy, idle) since this was asked last."""
        with self._changed:
            busy, idle = self._told
            self._told = (self.busy, self.idle)
            return self.busy - busy, self.idle - idle

    def enter(self, name: str) -> None:
        """Note that a batch came; its turn goes by that."""
        with self._changed:
            self._last += 1
            self._numbers[name] = self._last

    def leave(self, name: str) -> None:
        with self._changed:
            self._numbers.pop(name, None)
            self._withdrawn.discard(name)

    def withdraw(self, name: str) -> None:
        """Take a batch back, unless it is on the device, or was."""
        with self._changed:
            if name in self._numbers and name != self._holder:
                self._withdrawn.add(name)
                self._changed.notify_all()

    def check(self, name: str) -> None:
        """Raise Withdrawn where the batch was taken back."""
        if name in self._withdrawn:
            raise Withdrawn

    @contextmanager
    def at_the_device(self, name: str) -> Iterator[None]:
        """Wait for the device, and have it alone.

        Raises
        ------
        Withdrawn
            The batch was taken back meanwhile.
        """
        with self._changed:
            self._ready.add(name)
            try:
                while name not in self._withdrawn and not self._may(name):
                    self._changed.wait()
                self.check(name)
            finally:
                self._ready.discard(name)
            self._holder = name
            self._account()
        try:
            yield
        finally:
            with self._changed:
                self._account()
                self._holder = None
                # A batch that was on the device is not taken back any more.
                self._numbers.pop(name, None)
                self._changed.notify_all()

    def _may(self, name: str) -> bool:
        first = min(self._ready, key=lambda other: self._numbers.get(other, 0))
        return self._holder is None and first == name

    def _account(self) -> None:
        """At the beginning and at the end of a turn."""
        now = time.monotonic()
        if self._since is not None:
            passed = now - self._since
            self.busy, self.idle = self.busy + passed * self._working, self.idle + passed * (not self._working)
        self._since, self._working = now, not self._working
