"""How far the outlines of two masks lie apart."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree


def outline_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance, pixels, from the outline of each of two (H, W) bool masks to the other's, over both outlines.

    An outline is the object's outermost pixels, those at the image's border included. Unlike the intersection over
    union it does not tell a thin object from a thick one. Infinite where one of the masks is empty.
    """
    one, other = (np.argwhere(outline(mask)) for mask in (a, b))
    if not (len(one) and len(other)):
        return float("inf")
    # A few hundred pixels of each: to look them up takes a tenth of a distance transform of the picture.
    there, back = cKDTree(other).query(one)[0], cKDTree(one).query(other)[0]
    return float(np.concatenate([there, back]).mean())


def outline(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels of a mask that have a neighbour (of four) outside it, or outside the image."""
    inner = np.zeros_like(mask)
    across = mask[1:-1, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    inner[1:-1, 1:-1] = across & mask[:-2, 1:-1] & mask[2:, 1:-1]
    return mask & ~inner
