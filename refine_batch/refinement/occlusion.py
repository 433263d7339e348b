"""Whether something probably stands before the object without anyone having said so.

What a coarse mesh has wrong lies along its outline: it is too fat there, or a part is bent aside. What an occluder
takes away reaches deep into the object, or across it, so that the mask falls into pieces that the mesh joins.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, label

# How far from the mask the deepest pixel of what is missing lies, over the square root of the coarse silhouette's area.
# Of coarse meshes of real shapes (two kinds of each of 26) none came above it with true cameras and one in seventeen
# with cameras off by 5° and a tenth; six in seven of those of which a quarter was hidden from one side did.
DEEP = 0.3
# Share of the coarse silhouette that is missing in one piece between two pieces of the mask, each of at least so large
# a share, and how thick that piece is at least, over the same root. All of those behind a bar were told, no others.
BETWEEN, PIECE = 0.1, 0.03
THICK = 0.06
_BESIDE = 3


def occlusion_doubt(seen: np.ndarray, mask: np.ndarray, known: np.ndarray | None = None) -> str | None:
    """Why the mask is probably not all of the object's silhouette, a sentence for `kept_reason`; None: it may be all.

    Parameters
    ----------
    seen : (H, W) bool
        The coarse mesh's silhouette, from the camera that fits best within its trust.
    mask : (H, W) bool
        True on the object.
    known : (H, W) bool, or None
        Which pixels say anything; what does not is not missing.
    """
    covered = float(np.count_nonzero(seen))
    missing = seen & ~mask if known is None else seen & ~mask & known
    if not covered or not mask.any() or not missing.any():
        return None
    root = np.sqrt(covered)
    pieces, _ = label(missing)
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    share = np.count_nonzero(largest) / covered
    deepest = float(distance_transform_edt(~mask)[largest].max()) / root
    if deepest > DEEP:
        return (
            f"a part of the object is probably hidden: {share:.0%} of the coarse mesh's silhouette lies beyond the "
            "mask in one piece, deeper than a wrong shape would; ignore_uri can name what stands before it"
        )
    if share > BETWEEN and float(distance_transform_edt(largest).max()) / root > THICK:
        parts, _ = label(mask)
        beside = np.unique(parts[binary_dilation(largest, iterations=_BESIDE)])
        areas = np.bincount(parts.ravel())
        if sum(areas[part] > PIECE * covered for part in beside if part) > 1:
            return (
                f"something probably stands across the object: {share:.0%} of the coarse mesh's silhouette lies "
                "between pieces of the mask; ignore_uri can name what stands before it"
            )
    return None
