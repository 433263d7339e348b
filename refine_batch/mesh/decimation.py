"""Meshes of fewer vertices and of fewer triangles."""

from __future__ import annotations

import threading

import numpy as np

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.mesh.mesh import Mesh

# fast_simplification keeps its mesh in variables of the library: two calls at once mix their meshes.
_ONE_AT_A_TIME = threading.Lock()


def welded(mesh: Mesh) -> Mesh:
    """The mesh with one vertex where several had the same position, as files for flat shading have them."""
    vertices, of_vertex = np.unique(mesh.vertices, axis=0, return_inverse=True)
    if len(vertices) == len(mesh.vertices):
        return mesh
    return compact(vertices, of_vertex.reshape(-1)[mesh.faces])


def decimated(mesh: Mesh, faces: int) -> Mesh:
    """A welded mesh of about `faces` triangles by quadric error (Garland and Heckbert 1997), as few more as can be
    where the mesh's topology allows no fewer.

    Raises
    ------
    InstanceError
        MESH_BROKEN: nothing is left of it.
    """
    from fast_simplification import simplify

    # Triangles that share no vertices cannot collapse into each other: they would vanish one by one.
    mesh = welded(mesh)
    with _ONE_AT_A_TIME:
        vertices, triangles = simplify(mesh.vertices, mesh.faces, target_count=faces)[:2]
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
