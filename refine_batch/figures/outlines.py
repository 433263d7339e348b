"""How far the outlines of two masks lie apart."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt


def outline_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance, pixels, from the outline of each of two (H, W) bool masks to the other's, over both outlines.

    An outline is the object's outermost pixels, those at the image's border included. Unlike the intersection over
    union it does not tell a thin object from a thick one. Infinite where one of the masks is empty.
    """
    outlines = outline(a), outline(b)
    if not (outlines[0].any() and outlines[1].any()):
        return float("inf")
    there = distance_transform_edt(~outlines[1])[outlines[0]]
    back = distance_transform_edt(~outlines[0])[outlines[1]]
    return float(np.concatenate([there, back]).mean())


def outline(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels of a mask that have a neighbour (of four) outside it."""
    return mask & ~binary_erosion(mask)
