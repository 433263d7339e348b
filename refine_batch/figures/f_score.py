"""F-score of clouds (Tatarchenko et al., "What do single-view 3D reconstruction networks learn?", CVPR 2019)."""

from __future__ import annotations

import numpy as np

TAU = 0.05


def f_score(there: np.ndarray, back: np.ndarray, tau: float = TAU) -> float:
    """Harmonic mean of the shares of points that lie nearer than `tau` to the other cloud; 0 where none does.

    Parameters
    ----------
    there, back : (N,) and (M,) float
        Distance of each point of one cloud to the nearest of the other, and the reverse.
    """
    precision, recall = float(np.mean(there < tau)), float(np.mean(back < tau))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
