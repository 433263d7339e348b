"""Chamfer distance between clouds."""

from __future__ import annotations

import numpy as np


def chamfer_l2(there: np.ndarray, back: np.ndarray) -> float:
    """(mean d² + mean d²)·1000 of the nearest distances from each cloud to the other.

    Parameters
    ----------
    there, back : (N,) and (M,) float
        Distance of each point of one cloud to the nearest of the other, and the reverse.
    """
    return float((np.mean(there**2) + np.mean(back**2)) * 1000.0)
