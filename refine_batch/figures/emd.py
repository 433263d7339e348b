"""Earth mover's distance between clouds of equal size."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

# The assignment is cubic: 512 points take 0.02 s, 1024 take 0.1 s, 2048 take 0.4 s on one core. Between two samples of
# one surface the distance is not 0 but of the order of the points' spacing: 0.15, 0.10 and 0.07 on a unit sphere.
SAMPLES = 1024


def emd(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance over the one-to-one assignment of (N, 3) `a` to (N, 3) `b` whose sum of distances is least."""
    if a.shape != b.shape:
        raise ValueError(f"emd: expected clouds of one size, got {a.shape} and {b.shape}")
    cost = cdist(a, b)
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())
