"""How far the outlines of two masks lie apart."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree


def outline_distance(a: np.ndarray, b: np.ndarray, known: np.ndarray | None = None) -> float:
    """Mean distance, pixels, from the outline of each of two (H, W) bool masks to the other's, over both outlines.

    An outline is the object's outermost pixels, those at the image's border included. Unlike the intersection over
    union it does not tell a thin object from a thick one. Infinite where one of the masks is empty.

    `known`, (H, W) bool, are the pixels that say anything (default: all). Where a mask ends because no more is known
    the other ends as well, which is no agreement: of the pixels beside what is not known no distance is taken.
    """
    if known is not None:
        a, b = a & known, b & known
    edges = outline(a), outline(b)
    one, other = (np.argwhere(edge) for edge in edges)
    if not (len(one) and len(other)):
        return float("inf")
    of_one, of_other = one, other
    if known is not None and not known.all():
        told = ~binary_dilation(~known)
        of_one, of_other = (np.argwhere(edge & told) for edge in edges)
    # A few hundred pixels of each: to look them up takes a tenth of a distance transform of the picture.
    distances = np.concatenate([cKDTree(other).query(of_one)[0], cKDTree(one).query(of_other)[0]])
    return float(distances.mean()) if len(distances) else 0.0


def outline(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels of a mask that have a neighbour (of four) outside it, or outside the image."""
    inner = np.zeros_like(mask)
    across = mask[1:-1, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    inner[1:-1, 1:-1] = across & mask[:-2, 1:-1] & mask[2:, 1:-1]
    return mask & ~inner
