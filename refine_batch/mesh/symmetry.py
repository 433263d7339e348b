"""The symmetry plane of a coarse mesh, found in its shape."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryAxis
from refine_batch.mesh.sampling import has_area, sample_surface

# A coarse mesh of a symmetric object is about 0.02 to 0.04 (in extents) from its mirror image.
SYMMETRIC = 0.05
# An object that is symmetric in part (a corner sofa, about 0.08) is still helped by a plane: confidence leaves out the
# rest. Beyond this no plane is.
PARTLY = 0.12
# By how much another plane must be better than z's to be taken for it.
MARGIN = 1.4
_SAMPLES = 3000


def find_symmetry_axis(mesh: Mesh, seed: int = 0) -> SymmetryAxis:
    """The normal of the plane through the origin in which the mesh is nearly its own mirror image.

    z, the default of the field, wherever the mesh is symmetric in it or x's plane is not clearly better. y only where
    no upright plane holds even in part: whatever is flat is near its image upside down, and few objects are made so.
    `none` where no plane does.
    """
    if not has_area(mesh):
        return "none"
    z = asymmetry(mesh, "z", seed)
    if z <= SYMMETRIC:
        return "z"
    x = asymmetry(mesh, "x", seed)
    if z <= min(PARTLY, MARGIN * x):
        return "z"
    if x <= PARTLY:
        return "x"
    return "y" if asymmetry(mesh, "y", seed) <= SYMMETRIC else "none"


def asymmetry(mesh: Mesh, axis: str, seed: int = 0) -> float:
    """Root mean square distance from the mirrored surface to the surface, as a share of the largest extent.

    Between samples of both, so that it is a little above 0 for a symmetric mesh, too.
    """
    mirrored = sample_surface(mesh, _SAMPLES, seed)
    mirrored[:, "xyz".index(axis)] *= -1.0
    distance = cKDTree(sample_surface(mesh, 5 * _SAMPLES, seed + 1)).query(mirrored)[0]
    return float(np.sqrt((distance**2).mean()) / max(np.ptp(mesh.vertices, axis=0).max(), 1e-12))
