"""How likely a refined shape is to be worse than the coarse one, judged without a ground truth.

No single sign tells much; together they tell a good part. What they say was fitted by logistic regression to synthetic
objects whose true shapes are known (`benchmarks/guard.py`; docs/algorithm.md has the figures).
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np
from scipy.special import expit

from refine_batch.mesh import Mesh
from refine_batch.mesh.normals import area_normals
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.mesh.sampling import has_area
from refine_batch.mesh.symmetry import asymmetry

# Added to both asymmetries before they are compared: what sampling alone makes of a symmetric mesh.
SAMPLING = 0.005
# A coarse mesh nearer to its mirror image than this was made symmetric, and its symmetry says nothing about its shape.
MADE_SYMMETRIC = 0.015


@dataclass(frozen=True)
class Signs:
    """What of a refinement goes with a better or a worse shape.

    Attributes
    ----------
    asymmetry
        Logarithm of the refined mesh's asymmetry over the coarse mesh's, at most 0. A coarse mesh that was far from its
        mirror image and no longer is was wrong, and has been mended. `USUAL_ASYMMETRY` where it cannot be told.
    overlap
        2D IoU of the coarse mesh. The better it was, the less there was to gain.
    growth
        By how much the largest extent grew beyond the shape's size: the logarithm of its ratio less that of the sizes.
        A shape whose tips must go farther out to meet the mask is rounded off, or not where it should be.
    """

    asymmetry: float
    overlap: float
    growth: float


# The mean over the instances that were fitted.
USUAL_ASYMMETRY = -0.65
# Between their first and last hundredth nearly all of them lay; beyond that nothing is known, and nothing is added.
LEAST = Signs(asymmetry=-1.7, overlap=0.41, growth=-0.112)
MOST = Signs(asymmetry=0.0, overlap=0.936, growth=0.061)
WEIGHTS = Signs(asymmetry=1.85, overlap=10.6, growth=30.5)
BIAS = -10.3


def signs(coarse: Mesh, refined: Mesh, plane: SymmetryPlane | None, iou_before: float) -> Signs:
    """The signs of one refinement.

    Parameters
    ----------
    plane
        In which the object should be its own mirror image; None: in none.
    iou_before
        2D IoU of the coarse mesh and the mask, at the camera used.
    """
    before, after = (float(np.ptp(mesh.vertices, axis=0).max()) for mesh in (coarse, refined))
    return Signs(
        asymmetry=_mended(coarse, refined, plane),
        overlap=iou_before,
        growth=_log_ratio(after, before) - _log_ratio(size(refined), size(coarse)),
    )


def risk(signs: Signs) -> float:
    """The probability that the Chamfer distance to the true shape has grown by more than 1 %."""
    known = np.clip(astuple(signs), astuple(LEAST), astuple(MOST))
    return float(expit(BIAS + known @ np.array(astuple(WEIGHTS))))


def size(mesh: Mesh) -> float:
    """Root mean square distance of the faces' middles from their mean, both weighted by area; object units."""
    area = np.linalg.norm(area_normals(mesh), axis=1)
    area /= max(area.sum(), 1e-30)
    middle = mesh.vertices[mesh.faces].mean(axis=1, dtype=np.float64)
    return math.sqrt((area * ((middle - area @ middle) ** 2).sum(axis=1)).sum())


def _mended(coarse: Mesh, refined: Mesh, plane: SymmetryPlane | None) -> float:
    if plane is None or not (has_area(coarse) and has_area(refined)):
        return USUAL_ASYMMETRY
    before = asymmetry(coarse, plane)
    if before < MADE_SYMMETRIC:
        return USUAL_ASYMMETRY
    return min(0.0, _log_ratio(asymmetry(refined, plane) + SAMPLING, before + SAMPLING))


def _log_ratio(after: float, before: float) -> float:
    return math.log(max(after, 1e-12) / max(before, 1e-12))
