"""Intersection over union of masks."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64
from torch import Tensor


def mask_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(...,) float64 of two (..., H, W) bool; 1 where both are empty, they being the same."""
    union = np.count_nonzero(a | b, axis=(-2, -1))
    both = np.count_nonzero(a & b, axis=(-2, -1))
    return np.where(union > 0, both / np.maximum(union, 1), 1.0)


def silhouette_iou(a: Bool[Tensor, "n h h"], b: Bool[Tensor, "n h h"]) -> Float64[Tensor, " n"]:
    """The same of silhouettes on a device."""
    both, union = ((of).sum(dim=(1, 2)).double() for of in (a & b, a | b))
    return (both / union.clamp_min(1)).where(union > 0, 1.0)
