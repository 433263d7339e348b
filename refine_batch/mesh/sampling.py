"""Points on a surface."""

from __future__ import annotations

import numpy as np

from refine_batch.mesh import Mesh


def sample_surface(mesh: Mesh, count: int, seed: int) -> np.ndarray:
    """(count, 3) float64 points spread uniformly over the area of `mesh`; the same for the same seed.

    A face is drawn in proportion to its area, then a point in it (Osada et al., "Shape distributions", 2002: with u, v
    uniform, (1 − √u)·a + √u·(1 − v)·b + √u·v·c).

    Raises
    ------
    ValueError
        The mesh has no area.
    """
    random = np.random.default_rng(seed)
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    edges = corners[:, 1:] - corners[:, :1]
    reach = np.cumsum(np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1))
    if not reach[-1] > 0:
        raise ValueError("sample_surface: the mesh has no area")
    # side="right": a face without area is never drawn.
    chosen = np.searchsorted(reach, random.random(count) * reach[-1], side="right").clip(max=len(reach) - 1)
    root, v = np.sqrt(random.random(count)), random.random(count)
    return corners[chosen, 0] + (root * (1 - v))[:, None] * edges[chosen, 0] + (root * v)[:, None] * edges[chosen, 1]


def scale_to_extent(points: np.ndarray, extent: float = 2.0) -> np.ndarray:
    """`points` times the factor that makes their largest extent over the axes `extent`; the origin stays."""
    return points * (extent / np.ptp(points, axis=0).max())


def has_area(mesh: Mesh) -> bool:
    """Whether there is any surface to draw points from."""
    a, b, c = np.moveaxis(mesh.vertices.astype(np.float64)[mesh.faces], 1, 0)
    return bool(len(a)) and float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) > 0
