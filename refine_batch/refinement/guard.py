"""The guard: a refined mesh is returned only if checks that need no ground truth say that it is no worse."""

from __future__ import annotations

import math

import numpy as np

from refine_batch.mesh import Mesh
from refine_batch.mesh.normals import area_normals
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.mesh.volume import enclosed_volume
from refine_batch.refinement.risk import risk, signs

# Mean distance of the outlines of coarse mesh and mask, as a share of the image's side, below which a mesh is left
# alone: a pixel and a half of 224. What is left of the difference is pixels, which refinement answers with shape.
ALREADY_GOOD = 0.0067
# Largest change of an axis' extent: refinement repairs a shape, it does not make another one.
MAX_EXTENT_RATIO = 2.0
# Largest change of a closed mesh's volume.
MAX_VOLUME_RATIO = 8.0
# Largest share of the surface that may turn its back on where it looked before.
MAX_FLIPPED_SHARE = 0.25
# Largest share of the surface whose faces may shrink to next to nothing: to this share of their area.
MAX_COLLAPSED_SHARE = 0.25
COLLAPSED = 0.02
# How the reason begins where only the estimate of the risk speaks against a mesh.
PROBABLY_WORSE = "the shape has probably gained nothing"


def objection(
    coarse: Mesh,
    refined: Mesh,
    iou_before: float | None,
    iou_after: float | None,
    apart: float = math.inf,
    *,
    plane: SymmetryPlane | None = None,
    largest_risk: float = 1.0,
) -> str | None:
    """Why the refined mesh should not be returned, as a sentence for `kept_reason`; None where all is well.

    Parameters
    ----------
    iou_before, iou_after
        2D IoU of hard silhouette and mask, at the camera used.
    apart
        How far the outlines of coarse mesh and mask lie apart on average, as a share of the image's side.
    plane
        In which the object should be its own mirror image; None: in none.
    largest_risk
        The probability of a worse shape (`refine_batch.refinement.risk`) up to which a mesh is returned.
    """
    if iou_before is not None and iou_after is not None and iou_after < iou_before:
        return f"the silhouette agrees less with the mask than before: 2D IoU {iou_before:.4f} → {iou_after:.4f}"
    if apart < ALREADY_GOOD:
        return (
            "the coarse mesh already agrees with the mask, as well as shape can be told: their outlines lie "
            f"{apart:.2%} of the image's side apart"
        )
    before, after = np.ptp(coarse.vertices, axis=0), np.ptp(refined.vertices, axis=0)
    # A flat side may grow a little; it is measured against the whole.
    floor = 0.05 * float(before.max())
    ratio = (after + floor) / (before + floor)
    worst = int(np.argmax(np.abs(np.log(ratio))))
    if not 1.0 / MAX_EXTENT_RATIO <= ratio[worst] <= MAX_EXTENT_RATIO:
        return f"the extent along {'xyz'[worst]} changed too much: {before[worst]:.3g} → {after[worst]:.3g}"
    volumes = enclosed_volume(coarse), enclosed_volume(refined)
    if (
        volumes[0]
        and volumes[1] is not None
        and not 1 / MAX_VOLUME_RATIO <= volumes[1] / volumes[0] <= MAX_VOLUME_RATIO
    ):
        return f"the volume changed too much: {volumes[0]:.3g} → {volumes[1]:.3g}"
    flipped = flipped_share(coarse, refined)
    if flipped > MAX_FLIPPED_SHARE:
        return f"{flipped:.0%} of the surface turned over"
    collapsed = collapsed_share(coarse, refined)
    if collapsed > MAX_COLLAPSED_SHARE:
        return f"{collapsed:.0%} of the surface collapsed to next to nothing"
    # No estimate exceeds 1, and the signs cost two searches for nearest neighbours.
    if iou_before is not None and largest_risk < 1.0:
        estimated = risk(signs(coarse, refined, plane, iou_before))
        if estimated > largest_risk:
            return (
                f"{PROBABLY_WORSE}: the risk that it is worse is put at {estimated:.0%}, above "
                f"--guard-risk {largest_risk:g}"
            )
    return None


def flipped_share(coarse: Mesh, refined: Mesh) -> float:
    """Share of the coarse surface whose normal turned by more than 90°."""
    before, after = area_normals(coarse), area_normals(refined)
    area = np.linalg.norm(before, axis=1)
    return float(area[(before * after).sum(axis=1) < 0].sum() / max(area.sum(), 1e-30))


def collapsed_share(coarse: Mesh, refined: Mesh) -> float:
    """Share of the coarse surface whose faces lost nearly all of their area."""
    before, after = (np.linalg.norm(area_normals(mesh), axis=1) for mesh in (coarse, refined))
    return float(before[after < COLLAPSED * before].sum() / max(before.sum(), 1e-30))
