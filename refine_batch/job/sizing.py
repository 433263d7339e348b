"""What a batch costs, and how much of what is left an actor's next one is to be.

While much is left batches are as large as they may be. Towards the end an actor's share of all that is not done, what
is in others' hands included, goes by its speed: its next batch brings what it has in hand up to that, so that all end
together. It is computed anew for each batch (guided self-scheduling: Polychronopoulos, Kuck, IEEE Trans. Comp. 36(12),
1987), so that what comes, goes, or is slower than it was is made up for.
"""

from __future__ import annotations

import math

import numpy as np

# What is forgotten of earlier batches with each new one.
MEMORY = 0.97
# Relative variance of the weights below which overhead and work are not told apart.
ALIKE = 1e-3
# Full batches of an actor's share that count as much.
MUCH = 3
# What is kept of an actor's earlier batches with each new one.
KEEP = 0.9


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


def share(left: float, in_hands: float, mine: float, speed: float, speeds: float, full: float) -> float:
    """The weight of an actor's next batch; at most `full`, and 0 where it has its share in hand.

    Parameters
    ----------
    left, in_hands, mine
        Weights of what nobody has, of what actors have and have not done, and of what this one has.
    speed, speeds
        This one's, and the sum of all, those to come included.
    """
    missing = speed / speeds * (left + in_hands) - mine
    if missing <= 0:
        return 0.0
    if missing > MUCH * full:
        return full
    # The last few are alike: no large one is followed by a remnant.
    return missing / max(1, math.ceil(missing / full - 1e-9))
