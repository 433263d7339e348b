"""Whether something probably stands before the object without anyone having said so.

What a coarse mesh has wrong lies along its outline: it is too fat there, or a part is bent aside. What an occluder
takes away reaches deep into the object, or across it, so that the mask falls into pieces that the mesh joins. Or it
ends the mask at a straight line that the mesh crosses just where the mask touches it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, label, zoom

from refine_batch.figures.iou_2d import mask_iou

# How far from the mask the deepest pixel of what is missing lies, over the square root of the coarse silhouette's area.
# Of coarse meshes of real shapes (two kinds of each of 26) none came above it with true cameras and one in seventeen
# with cameras off by 5° and a tenth; six in seven of those of which a quarter was hidden from one side did.
DEEP = 0.3
# Share of the coarse silhouette that is missing in one piece between two pieces of the mask, each of at least so large
# a share, and how thick that piece is at least, over the same root. All of those behind a bar were told, no others.
BETWEEN, PIECE = 0.1, 0.03
THICK = 0.06
_BESIDE = 3
# How far round what is missing nothing is known either, over the same root, and at its edges, pixels.
NEAR, EDGE = 0.1, 2.0
# Of a line at which the mask ends and the mesh goes on: the share of the coarse silhouette beyond it, times the share
# of what either covers on it that both do, from the camera that fits best, and from the one that was given where that
# fit is worse than this 2D IoU: it may have moved to where less is missing. The silhouette reaches beyond by so much
# over the same root. Of the same shapes, with exact cameras and with wrong ones, 102 of 104 came above either where a
# quarter was hidden from one side, and 2 of 104 where nothing was.
CUT, CUT_AS_GIVEN, FIT = 0.025, 0.075, 0.8
_BEYOND, _REACH = 0.05, 0.12
# Degrees between the lines that are tried.
_STEP = 2.0
# 2D IoU from which a silhouette that is moved and resized in its picture explains the mask as well: it is out of its
# place. Of those with a quarter hidden the best came to 0.84, of meshes out of place those that a line cuts off to 0.85
# to 0.91.
MOVED = 0.845
_SIZES = np.exp(np.linspace(-0.3, 0.3, 9))
_SIDE = 112
_SAY_SO = "ignore_uri can name what stands before it"


@dataclass(frozen=True)
class Line:
    """A line at which a mask ends and the mesh's silhouette goes on.

    Attributes
    ----------
    beyond
        The share of the silhouette that lies beyond it.
    both
        How much of what either covers on the line both do.
    across
        Row and column of the direction in which it is beyond, of length 1.
    end
        Where it lies in that direction, pixels.
    """

    beyond: float = 0.0
    both: float = 0.0
    across: tuple[float, float] = (0.0, 0.0)
    end: float = 0.0

    @property
    def weight(self) -> float:
        """What is held against the limits."""
        return self.beyond * self.both

    def past(self, shape: tuple[int, ...]) -> np.ndarray:
        """(H, W) bool: the pixels beyond it, and those on it, which the mask ends in."""
        rows, columns = np.indices(shape, sparse=True)
        return self.across[0] * rows + self.across[1] * columns > self.end - EDGE


@dataclass(frozen=True, eq=False)
class Hidden:
    """A part of the object that something probably hides.

    Attributes
    ----------
    reason
        Why, as a sentence.
    where : (H, W) bool
        The pixels of which the mask therefore says nothing.
    """

    reason: str
    where: np.ndarray

    @property
    def kept_reason(self) -> str:
        """Why the mesh comes back as it was, where that is too much."""
        return f"{self.reason}; {_SAY_SO}"

    @property
    def note(self) -> str:
        """What the row says where it is left open."""
        return f"{self.reason}; what lies there was left open; {_SAY_SO}"


def probably_hidden(
    seen: np.ndarray, mask: np.ndarray, known: np.ndarray | None = None, as_given: np.ndarray | None = None
) -> Hidden | None:
    """What of the object the mask probably does not show; None: it may be all there.

    Parameters
    ----------
    seen : (H, W) bool
        The coarse mesh's silhouette, from the camera that fits best within its trust.
    mask : (H, W) bool
        True on the object.
    known : (H, W) bool, or None
        Which pixels say anything; what does not is not missing.
    as_given : (H, W) bool, or None
        The coarse mesh's silhouette from the camera that was given, of which the fit may have made one that shows
        less of what is hidden; None: `seen` is.
    """
    covered = float(np.count_nonzero(seen))
    missing = seen & ~mask if known is None else seen & ~mask & known
    if not covered or not mask.any() or not missing.any():
        return None
    root = math.sqrt(covered)
    all_known = known is None or bool(known.all())
    pieces, _ = label(missing)
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    share = np.count_nonzero(largest) / covered
    # What is not known may be the object's, as it mostly is beyond the picture's edge.
    off = ~mask if known is None else ~mask & known
    if _farther(largest, off, DEEP * root):
        line = cut_off(seen, mask)
        where = line.past(mask.shape) if all_known and line.weight > CUT else _round(largest, mask, root)
        return Hidden(
            f"a part of the object is probably hidden: {share:.0%} of the coarse mesh's silhouette lies beyond the "
            "mask in one piece, deeper than a wrong shape would",
            where,
        )
    if share > BETWEEN and float(distance_transform_edt(largest).max()) > THICK * root:
        parts, _ = label(mask)
        beside = np.unique(parts[binary_dilation(largest, iterations=_BESIDE)])
        areas = np.bincount(parts.ravel())
        if sum(areas[part] > PIECE * covered for part in beside if part) > 1:
            return Hidden(
                f"something probably stands across the object: {share:.0%} of the coarse mesh's silhouette lies "
                "between pieces of the mask",
                _round(largest, mask, root),
            )
    if not all_known:
        # Masks end at straight lines there, and so much less of the object is seen that its own count for more.
        return None
    looks = [(seen, CUT_AS_GIVEN if as_given is None else CUT)]
    if as_given is not None and float(mask_iou(seen, mask)) < FIT:
        looks.append((as_given, CUT_AS_GIVEN))
    for silhouette, limit in looks:
        line = cut_off(silhouette, mask)
        if line.weight > limit and moved_iou(silhouette, mask) < MOVED:
            return Hidden(
                f"a part of the object is probably hidden: the mask ends at a straight line with {line.beyond:.0%} of "
                "the coarse mesh's silhouette beyond it",
                line.past(mask.shape),
            )
    return None


def _round(piece: np.ndarray, mask: np.ndarray, root: float) -> np.ndarray:
    """(H, W) bool: a missing piece, what is not the mask's near it, and the mask's pixels at its edge."""
    near = binary_dilation(piece, iterations=max(1, round(NEAR * root)))
    return (near & ~mask) | binary_dilation(piece, iterations=math.ceil(EDGE))


def moved_iou(seen: np.ndarray, mask: np.ndarray) -> float:
    """The best 2D IoU of two (H, W) masks, not empty, of which the first is moved and resized in the picture."""
    from scipy.signal import correlate  # slow to import, and seldom needed

    step = -(-max(mask.shape) // _SIDE)
    there = mask[::step, ::step].astype(np.float32)
    best = 0.0
    for size in _SIZES:
        moved = zoom(seen[::step, ::step].astype(np.float32), size, order=0)
        shared = float(np.max(correlate(there, moved, method="fft")))
        either = float(moved.sum()) + float(there.sum()) - shared
        best = max(best, shared / either)
    return best


def cut_off(seen: np.ndarray, mask: np.ndarray) -> Line:
    """Of the lines at which a mask ends the one that most probably cuts it off. Both (H, W) bool."""
    best = Line()
    if not mask.any() or not seen.any():
        return best
    angle = np.radians(np.arange(0.0, 360.0, _STEP), dtype=np.float32)
    across = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ends = (across @ _row_ends(mask).T).max(axis=1)
    area = np.count_nonzero(seen)
    root = float(np.sqrt(area))
    # No pixel of the mask lies beyond where it ends.
    height = across @ _places(seen & ~mask).T
    shares = np.count_nonzero(height > ends[:, None] + 0.5, axis=1) / area
    # A pixel's corner, and over half of a chord half a step of the angle.
    near = 1.0 + 0.5 * float(np.radians(_STEP)) * root
    # What is too wide goes beyond the mask on the other side, too.
    one_sided = shares > 2.0 * np.roll(shares, len(shares) // 2)
    tried = np.flatnonzero((shares > _BEYOND) & one_sided)
    tried = tried[height[tried].max(axis=1, initial=-np.inf) - ends[tried] > _REACH * root]
    if not len(tried):
        return best
    of_mask, of_seen = _places(mask), _places(seen)
    for i in tried[np.argsort(-shares[tried], kind="stable")]:
        # At best both cover all of the line.
        if shares[i] <= best.weight:
            break
        along = np.array([-across[i, 1], across[i, 0]])
        touched = np.unique(np.round(of_mask[of_mask @ across[i] > ends[i] - near] @ along))
        crossed = np.unique(np.round(of_seen[np.abs(of_seen @ across[i] - ends[i]) <= 1.0] @ along))
        both = len(np.intersect1d(touched, crossed)) / max(1, len(np.union1d(touched, crossed)))
        if shares[i] * both > best.weight:
            best = Line(float(shares[i]), both, (float(across[i, 0]), float(across[i, 1])), float(ends[i]))
    return best


def _places(mask: np.ndarray) -> np.ndarray:
    """(N, 2) float32: row and column of each pixel of a mask."""
    return np.stack(np.divmod(np.flatnonzero(mask), mask.shape[1]), axis=1).astype(np.float32)


def _row_ends(mask: np.ndarray) -> np.ndarray:
    """(N, 2) float32: the first and the last pixel of each row of a mask, among which its hull's corners are."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    return np.stack([np.r_[rows, rows], np.r_[first, last]], axis=1).astype(np.float32)


def _farther(piece: np.ndarray, off: np.ndarray, limit: float) -> bool:
    """Whether a pixel of `piece` is farther than `limit` pixels from all that is not `off`; (H, W) bool, `piece` not
    empty and all of it off."""
    # Mostly each has one in the square that is drawn into the circle about it, which is soon counted.
    reach = int(limit / math.sqrt(2.0))
    counts = np.zeros(np.add(off.shape, 1), np.int32)
    counts[1:, 1:] = (~off).cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    rows, columns = np.divmod(np.flatnonzero(piece), piece.shape[1])
    top, bottom = np.maximum(rows - reach, 0), np.minimum(rows + reach + 1, off.shape[0])
    left, right = np.maximum(columns - reach, 0), np.minimum(columns + reach + 1, off.shape[1])
    near = counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left]
    return not near.all() and bool(distance_transform_edt(off)[piece].max() > limit)
