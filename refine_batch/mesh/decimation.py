"""Meshes of fewer vertices and of fewer triangles."""

from __future__ import annotations

import threading

import numpy as np

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.mesh.mesh import Mesh

# fast_simplification keeps its mesh in variables of the library: two calls at once mix their meshes.
_ONE_AT_A_TIME = threading.Lock()


def decimated(mesh: Mesh, faces: int, haste: int = 7) -> Mesh:
    """A mesh of about `faces` triangles by quadric error (Garland and Heckbert 1997), as few more as can be
    where the mesh's topology allows no fewer.

    The mesh must be welded: triangles that share no vertices cannot collapse into each other and would vanish one by
    one.

    `haste` is the library's aggressiveness, from 1: the less, the longer it takes and the more faithful it is.

    Raises
    ------
    InstanceError
        MESH_BROKEN: nothing is left of it.
    """
    from fast_simplification import simplify

    with _ONE_AT_A_TIME:
        vertices, triangles = simplify(mesh.vertices, mesh.faces, target_count=faces, agg=haste)[:2]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (c != a)]
    small = compact(np.asarray(vertices, np.float32), triangles)
    if not len(small.faces) or not np.isfinite(small.vertices).all():
        raise InstanceError(
            ErrorKind.MESH_BROKEN, f"the mesh falls apart when it is decimated from {len(mesh.faces)} to {faces} faces"
        )
    return small


def compact(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """The faces with the vertices that they use, in order."""
    used, renumbered = np.unique(faces, return_inverse=True)
    return Mesh(vertices[used], renumbered.reshape(-1, 3))
