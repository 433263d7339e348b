"""What a batch costs, and how much of what is left an actor's next one is to be.

While much is left batches are as large as they may be. Towards the end it is reckoned when all could be done at the
earliest, by the actors' speeds, by what each has in hand, and by what it costs to begin a batch; an actor's next
batches bring it up to that time, so that all end together and none begins what others would have done sooner. It is
reckoned anew as batches are handed out (guided self-scheduling: Polychronopoulos, Kuck, IEEE Trans. Comp. 36(12),
1987), so that what comes, goes, or is slower than it was is made up for.
"""

from __future__ import annotations

import math

import numpy as np

# What is forgotten of earlier batches with each new one.
MEMORY = 0.99
# Relative variance of the weights below which overhead and work are not told apart.
ALIKE = 1e-3
# Full batches of an actor's share that count as much.
MUCH = 3
# What is kept of an actor's earlier batches with each new one.
KEEP = 0.9
# The least batch, in units of the weight that could be done while a batch is begun.
LEAST = 0.3
# To which the end of a run is reckoned, in units of what a batch or a few take.
PRECISE = 1e-3


class Costs:
    """What a batch costs, as it is measured: seconds = a + b × weight, by least squares that slowly forgets."""

    def __init__(self) -> None:
        self._sums = np.zeros(5)  # 1, w, t, w², wt

    def add(self, weight: float, seconds: float) -> None:
        if weight > 0 and seconds > 0 and math.isfinite(weight + seconds):
            self._sums = MEMORY * self._sums + [1.0, weight, seconds, weight**2, weight * seconds]

    @property
    def known(self) -> bool:
        return self._sums[0] > 0

    def line(self) -> tuple[float, float]:
        """(a, b), neither negative; (0, 1) before the first batch."""
        n, w, t, ww, wt = self._sums
        if not n:
            return 0.0, 1.0
        spread = n * ww - w * w
        if spread <= ALIKE * n * ww:
            return 0.0, t / w  # nothing tells the two apart
        b = (n * wt - w * t) / spread
        a = (t - b * w) / n
        if a < 0:
            return 0.0, wt / ww
        if b <= 0:
            return t / n, 1e-9
        return a, b

    def seconds(self, weight: float) -> float:
        a, b = self.line()
        return a + b * weight

    @property
    def floor(self) -> float:
        """The weight below which more than half of a batch is overhead; infinite while nothing tells."""
        n, w, _, ww, _ = self._sums
        if not self.known or n * ww - w * w <= ALIKE * n * ww:
            return math.inf
        a, b = self.line()
        return a / b


class Pace:
    """How fast an actor is: what its batches would have taken the others, by what they took it; it slowly forgets."""

    def __init__(self) -> None:
        self._sums = np.zeros(3)  # 1, w, t
        self.speed = 1.0

    @property
    def known(self) -> bool:
        return self._sums[0] > 0

    def add(self, weight: float, seconds: float, costs: Costs) -> None:
        self._sums = KEEP * self._sums + [1.0, weight, seconds]
        if costs.known and self._sums[2] > 0:
            a, b = costs.line()
            self.speed = float(np.clip((a * self._sums[0] + b * self._sums[1]) / self._sums[2], 0.1, 10.0))


def done_in(seconds: np.ndarray, line: tuple[float, float], full: float) -> np.ndarray:
    """The weight that an average actor can do in so many seconds, in batches of at most `full` that cost `line`."""
    a, b = line
    each = a + b * full
    begun = np.floor(np.maximum(seconds, 0.0) / each)
    return begun * full + np.maximum(seconds - begun * each - a, 0.0) / b


def end_of(left: float, free: np.ndarray, speeds: np.ndarray, line: tuple[float, float], full: float) -> float:
    """When all is done at the earliest: the time by which the actors together can do what is `left`.

    Parameters
    ----------
    free
        When each is done with what it has in hand, in seconds.
    speeds
        How much faster than an average one each is.
    """

    def done(end: float) -> float:
        return float(done_in((end - free) * speeds, line, full).sum())

    low = high = float(free.min())
    if left <= 0:
        return low
    less = more = 0.0
    step = (line[0] + line[1] * min(left, full)) / float(speeds.max())
    while more < left:
        low, less = high, more
        high, step = high + step, 2.0 * step
        more = done(high)
    while high - low > PRECISE * step:
        middle = 0.5 * (low + high)
        if (reached := done(middle)) < left:
            low, less = middle, reached
        else:
            high, more = middle, reached
    return low + (left - less) / (more - less) * (high - low)  # what is done grows in straight pieces


def next_of(seconds: float, line: tuple[float, float], full: float) -> float:
    """The weight of the next batch of an average actor that has so many seconds left; 0 where they are too few for one.

    The last few are alike: no large one is followed by a remnant.
    """
    a, b = line
    count = max(1, math.ceil(seconds / (a + b * full) - 1e-6))
    alike = (seconds - count * a) / (count * b)
    # One more may be worth less than what it costs to begin it.
    fewer = full if count > 1 and (count - 1) * full >= count * alike else 0.0
    weight = max(alike, fewer)
    return min(full, max(weight, LEAST * a / b)) if weight > 0 else 0.0
