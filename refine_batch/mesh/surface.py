"""The point of a surface that is nearest to a point, as a Warp kernel over Warp's bounding volume hierarchy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import warp as wp

from refine_batch.devices.warp_runtime import launch, start
from refine_batch.mesh.mesh import Mesh

# Faces in a leaf of the hierarchy: searched in less time than leaves of one.
LEAF = 4


@wp.func
def widest_reach(point: wp.vec3, middle: wp.vec3, radius: wp.float32):
    """How far from a point a mesh within a sphere is at most."""
    return 1.01 * (wp.length(point - middle) + radius) + 1e-6


@wp.func
def found_at(mesh: wp.uint64, query: wp.MeshQueryPoint):
    """Where a query found the surface, in double precision."""
    shares = wp.vec3(query.u, query.v, 1.0 - query.u - query.v)
    place = wp.vec3d()
    for k in range(3):
        place += wp.float64(shares[k]) * wp.vec3d(wp.mesh_get_point(mesh, 3 * query.face + k))
    return place


@wp.kernel(enable_backward=False)
def closest_kernel(
    mesh: wp.uint64,
    points: wp.array[wp.vec3],
    middle: wp.vec3,
    radius: wp.float32,
    face: wp.array[wp.int32],
    share: wp.array[wp.vec3],
    nearest: wp.array[wp.vec3d],
):
    """The sphere bounds all of the mesh."""
    i = wp.tid()
    point = points[i]
    query = wp.mesh_query_point_no_sign(mesh, point, widest_reach(point, middle, radius))
    if query.result:
        face[i] = query.face
        share[i] = wp.vec3(query.u, query.v, 1.0 - query.u - query.v)
        nearest[i] = found_at(mesh, query)


class Surface:
    """A mesh to ask for nearest points, its hierarchy built once."""

    def __init__(self, mesh: Mesh):
        start()
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        self._middle = wp.vec3(*((low + high) / 2.0).tolist())
        self._radius = float(np.linalg.norm(high - low)) / 2.0
        self._tree = wp.Mesh(
            points=wp.array(mesh.vertices, dtype=wp.vec3, device="cpu"),
            indices=wp.array(mesh.faces.ravel(), dtype=wp.int32, device="cpu"),
            bvh_leaf_size=LEAF,
        )

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where on the mesh each of (N, 3) points' nearest point lies.

        Returns
        -------
        face : (N,) int64
        share : (N, 3) float64
            Barycentric coordinates there, of the face's three corners.
        """
        face, share, _ = self._asked(points)
        return face.astype(np.int64), share.astype(np.float64)

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) float64: the nearest point of the mesh to each of (N, 3) points."""
        return self._asked(points)[2]

    @property
    def tree(self) -> tuple[int, Any, float]:
        """What a kernel asks: the hierarchy, and a sphere that bounds all of the mesh."""
        return self._tree.id, self._middle, self._radius

    def _asked(self, points: np.ndarray) -> tuple[np.ndarray, ...]:
        queries = torch.from_numpy(np.ascontiguousarray(points, np.float32))
        count = len(queries)
        face, share = torch.zeros(count, dtype=torch.int32), torch.zeros(count, 3)
        nearest = torch.zeros(count, 3, dtype=torch.float64)
        if count:
            mesh, *sphere = self.tree
            launch(closest_kernel, count, [mesh, queries, *sphere, face, share, nearest])
        return face.numpy(), share.numpy(), nearest.numpy()
