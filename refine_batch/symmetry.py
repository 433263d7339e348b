"""The symmetry plane of a coarse mesh, found in its shape."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from refine_batch.figures.sampling import has_area, sample_surface
from refine_batch.instance import SymmetryAxis
from refine_batch.mesh import Mesh

# A coarse mesh of a symmetric object is about 0.02 to 0.04 (in extents) from its mirror image, of an asymmetric one
# mostly more than 0.06.
SYMMETRIC = 0.05
_SAMPLES = 3000


def find_symmetry_axis(mesh: Mesh, seed: int = 0) -> SymmetryAxis:
    """The normal of the plane through the origin in which the mesh is nearly its own mirror image.

    z, the default of the field, wherever it qualifies; else the better of x and y; `none` where no plane does.
    """
    if not has_area(mesh):
        return "none"
    asymmetries = {axis: asymmetry(mesh, axis, seed) for axis in ("x", "y", "z")}
    if asymmetries["z"] <= SYMMETRIC:
        return "z"
    best = min(asymmetries, key=lambda axis: asymmetries[axis])
    if asymmetries[best] > SYMMETRIC:
        return "none"
    return "x" if best == "x" else "y"


def asymmetry(mesh: Mesh, axis: str, seed: int = 0) -> float:
    """Root mean square distance from the mirrored surface to the surface, as a share of the largest extent.

    Between samples of both, so that it is a little above 0 for a symmetric mesh, too.
    """
    mirrored = sample_surface(mesh, _SAMPLES, seed)
    mirrored[:, "xyz".index(axis)] *= -1.0
    distance = cKDTree(sample_surface(mesh, 5 * _SAMPLES, seed + 1)).query(mirrored)[0]
    return float(np.sqrt((distance**2).mean()) / max(np.ptp(mesh.vertices, axis=0).max(), 1e-12))
