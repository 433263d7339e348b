"""What a running job tells a person: a live view on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from refine_batch.results.durations import duration

if TYPE_CHECKING:
    from rich.console import Console

# The rate is that of the last minutes: long enough for batches of minutes, short enough to follow a growing cluster.
RATE_WINDOW = 300.0
# Seconds after which a log is told again what has not changed.
SIGN_OF_LIFE = 60.0


@dataclass(frozen=True)
class Snapshot:
    """The state of a run.

    Parameters
    ----------
    rows
        Of the manifest, as far as this run goes.
    skipped
        Rows that the output already held.
    iou
        Mean 2D IoU (before, after) over the rows finished so far.
    actors, starting
        Actors ready or at work, and on their way.
    """

    rows: int
    skipped: int = 0
    refined: int = 0
    kept: int = 0
    failed: int = 0
    iou: tuple[float, float] | None = None
    actors: int = 0
    starting: int = 0
    stopping: bool = False

    @property
    def finished(self) -> int:
        """Rows that this run has brought to an end."""
        return self.refined + self.kept + self.failed

    @property
    def done(self) -> int:
        return self.skipped + self.finished


class Reporter(Protocol):
    """Shows a run's progress."""

    def show(self, snapshot: Snapshot) -> None:
        """Called often; shows as often as it sees fit."""

    def say(self, text: str) -> None:
        """Tell something of its own, at once."""

    def close(self) -> None:
        """Show nothing any more."""


class Silent:
    """Shows nothing."""

    def show(self, snapshot: Snapshot) -> None: ...

    def say(self, text: str) -> None: ...

    def close(self) -> None: ...


class Rate:
    """Rows per second over the last minutes."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def update(self, finished: int, now: float) -> float | None:
        """The rate, None before the first row."""
        if not self._points or self._points[-1][1] != finished:
            self._points.append((now, finished))
        while len(self._points) > 2 and now - self._points[1][0] > RATE_WINDOW:
            self._points.popleft()
        start, count = self._points[0]
        return (finished - count) / (now - start) if finished > count and now > start else None


class Lines:
    """A plain line every `interval` seconds, for logs; while nothing changes, one a minute as a sign of life."""

    def __init__(self, stream: TextIO | None = None, interval: float = 5.0):
        self._given = stream
        self._interval = interval
        self._next = 0.0
        self._rate = Rate()
        self._shown: Snapshot | None = None
        self._shown_at = 0.0
        self._unshown: str | None = None

    def show(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        rate = self._rate.update(snapshot.finished, now)
        if snapshot == self._shown and now < self._shown_at + SIGN_OF_LIFE:
            return
        self._unshown = line(snapshot, rate)
        if now >= self._next:
            self._next = now + self._interval
            self._shown, self._shown_at = snapshot, now
            self._show()

    def say(self, text: str) -> None:
        self._write(text)

    def close(self) -> None:
        self._show()

    def _show(self) -> None:
        if self._unshown is not None:
            self._write(self._unshown)
            self._unshown = None

    def _write(self, text: str) -> None:
        # Standard error may be another stream by now.
        stream = self._given or sys.stderr
        stream.write(f"{time.strftime('%H:%M:%S')} {one_line(text)}\n")
        stream.flush()


class Live:
    """A view on a terminal that keeps itself up to date: a bar with the pace, and below it how it goes."""

    def __init__(self, console: Console | None = None):
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.text import Text

        self._console = console or Console(stderr=True)
        # A batch may take minutes: what turns and counts says that all is well.
        self._progress = Progress(
            SpinnerColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rows]}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[pace]}", markup=False),
            console=self._console,
            expand=True,
        )
        self._task = self._progress.add_task("", total=None, rows="starting", pace="")
        # Two lines, because one of both is cut short on a terminal of 80 columns.
        self._state = Text()
        self._rate = Rate()
        self._stopping = False
        self._live = Live(Group(self._progress, self._state), console=self._console, transient=True)
        self._live.start()

    def show(self, snapshot: Snapshot) -> None:
        rate = self._rate.update(snapshot.finished, time.monotonic())
        self._progress.update(
            self._task,
            total=snapshot.rows,
            completed=snapshot.done,
            rows=_rows(snapshot),
            pace=", ".join(_pace(snapshot, rate)),
        )
        self._state.plain = "  " + ", ".join(_state(snapshot))
        if snapshot.stopping and not self._stopping:
            self._stopping = True
            self.say("Stopping: what is in hand is finished first. Ctrl-C once more drops it.")

    def say(self, text: str) -> None:
        self._console.print(one_line(text), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._live.stop()


def line(snapshot: Snapshot, rate: float | None) -> str:
    """`12/400 rows, 0.35/s, 18 min left, 1 failed, 2D IoU 0.712 → 0.903, 2 actors`."""
    return ", ".join([_rows(snapshot), *_pace(snapshot, rate), *_state(snapshot)])


def _rows(snapshot: Snapshot) -> str:
    return f"{snapshot.done}/{snapshot.rows} rows"


def _pace(snapshot: Snapshot, rate: float | None) -> list[str]:
    if not rate:
        return []
    pace = [f"{rate:.3g}/s" if rate >= 0.1 else f"{rate * 60:.2g}/min"]
    if snapshot.rows > snapshot.done and not snapshot.stopping:
        pace.append(f"{duration((snapshot.rows - snapshot.done) / rate)} left")
    return pace


def _state(snapshot: Snapshot) -> list[str]:
    parts = [f"{snapshot.skipped} done before"] if snapshot.skipped else []
    if snapshot.kept:
        parts.append(f"{snapshot.kept} kept")
    parts.append(f"{snapshot.failed} failed")
    if snapshot.iou:
        parts.append(f"2D IoU {snapshot.iou[0]:.3f} → {snapshot.iou[1]:.3f}")
    parts.append(f"{snapshot.actors} actor{'' if snapshot.actors == 1 else 's'}")
    if snapshot.starting:
        parts[-1] += f" (+{snapshot.starting} starting)"
    if snapshot.stopping:
        parts.append("stopping")
    return parts


def one_line(text: str) -> str:
    """`text` on one line and without control characters, whatever an instance id or a message holds."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
