"""Intersection over union of masks."""

from __future__ import annotations

import numpy as np


def mask_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(...,) float64 of two (..., H, W) bool; 1 where both are empty, they being the same."""
    union = np.count_nonzero(a | b, axis=(-2, -1))
    both = np.count_nonzero(a & b, axis=(-2, -1))
    return np.where(union > 0, both / np.maximum(union, 1), 1.0)
