"""SIGTERM and Ctrl-C: the first asks the run to end well, the second to end at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

DEFAULT_GRACE = 30.0
# `ray job stop` sends SIGKILL this long after SIGTERM unless the job's environment says otherwise.
RAY_JOB_STOP_WAIT = 3.0


class StopRequest:
    """Listens for signals between `install` and `restore`; a context manager. One inside another tells it too."""

    def __init__(self, grace_period: float | None = None):
        self._grace = default_grace() if grace_period is None else grace_period
        self._before: dict[int, Any] = {}
        self._at = 0.0
        self.signal: str | None = None
        self.urgent = False

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def overdue(self) -> bool:
        """Whether what is still in hand is to be dropped."""
        return self.signal is not None and (self.urgent or self.overdue_by > 0)

    @property
    def overdue_by(self) -> float:
        """Seconds since the grace ran out; negative before, and where nothing was asked."""
        return time.monotonic() - self._at - self._grace if self.signal is not None else float("-inf")

    def install(self) -> None:
        """Take the handlers; again after `ray.init()`, which sets its own. Only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, self._handle)
            self._before.setdefault(number, before)

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def __enter__(self) -> StopRequest:
        self.install()
        return self

    def __exit__(self, *exception: object) -> None:
        self.restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            # A terminal's Ctrl-C can reach the process twice at once.
            self.urgent = time.monotonic() - self._at > 0.5
        else:
            self.signal, self._at = signal.Signals(number).name, time.monotonic()
        outer = getattr(self._before.get(number), "__self__", None)
        if isinstance(outer, StopRequest):
            # Whatever this work is a part of is asked to end as well.
            outer._handle(number, frame)


def default_grace() -> float:
    """Seconds that a stopped run may go on: what `ray job stop` leaves a submitted job, else 30."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return DEFAULT_GRACE
    try:
        wait = float(os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", RAY_JOB_STOP_WAIT))
    except ValueError:
        wait = RAY_JOB_STOP_WAIT
    # Ending actors, the run record and the lock take about a second.
    return max(0.5, min(wait - 2.0, wait * 0.8))
