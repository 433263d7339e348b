"""Which pixels of a working image say anything about the object."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation

# Covered share of a border pixel from which the silhouette reaches the picture's edge there.
_TOUCHES = 0.25
# Covered share that is more than rounding.
_COVERED = 0.02


def known_pixels(mask: np.ndarray, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    """Which pixels say whether the object is there, as far as the picture's edge tells.

    Where a silhouette reaches the edge of the picture the object goes on beyond it, no one knows how far. The pixels
    there, whose other half is not in the picture, say nothing, and neither does the padding beyond an edge that the
    silhouette reaches. The padding beyond an edge that it keeps clear of is background.

    Parameters
    ----------
    mask : (H, W) bool, or float32 in [0, 1]
        The share of each pixel that the object covers; 0 in the padding.
    box
        Left, top, right and bottom edge of the picture, pixels of the mask; None: the whole of it.

    Returns
    -------
    (H, W) bool
    """
    height, width = mask.shape
    left, top, right, bottom = box or (0.0, 0.0, width, height)
    x0, y0 = int(np.floor(left + 1e-6)), int(np.floor(top + 1e-6))
    x1, y1 = int(np.ceil(right - 1e-6)), int(np.ceil(bottom - 1e-6))
    known = np.ones(mask.shape, bool)
    share = mask.astype(np.float32)
    # A pixel that the picture's edge cuts through holds that much less of it.
    sides = (
        (np.s_[y0, :], np.s_[:y0, :], y0 + 1 - top),
        (np.s_[y1 - 1, :], np.s_[y1:, :], bottom - y1 + 1),
        (np.s_[:, x0], np.s_[:, :x0], x0 + 1 - left),
        (np.s_[:, x1 - 1], np.s_[:, x1:], right - x1 + 1),
    )
    for line, beyond, within in sides:
        covered = share[line] / max(min(within, 1.0), 1e-3)
        if (covered > _TOUCHES).any():
            known[line] &= ~binary_dilation(covered > _COVERED)
            known[beyond] = False
    return known
