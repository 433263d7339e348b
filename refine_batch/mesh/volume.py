"""The volume inside a mesh."""

from __future__ import annotations

import numpy as np

from refine_batch.mesh.mesh import Mesh


def enclosed_volume(mesh: Mesh) -> float | None:
    """The volume inside a closed, consistently wound mesh, by the divergence theorem; None for any other."""
    directed = np.concatenate([mesh.faces[:, [i, j]] for i, j in ((0, 1), (1, 2), (2, 0))]).astype(np.int64)
    forth = directed[:, 0] * len(mesh.vertices) + directed[:, 1]
    back = directed[:, 1] * len(mesh.vertices) + directed[:, 0]
    if not np.array_equal(np.sort(forth), np.sort(back)):
        return None
    return abs(signed_volume(mesh))


def signed_volume(mesh: Mesh) -> float:
    """Volume that the faces enclose, cubed units of the mesh; negative where they face inwards."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    return float(np.einsum("fc,fc->f", a, np.cross(b, c)).sum()) / 6.0
