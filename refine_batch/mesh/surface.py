"""The point of a surface that is nearest to a point, as a Warp kernel over Warp's bounding volume hierarchy."""

from __future__ import annotations

import numpy as np
import torch
import warp as wp

from refine_batch.devices.warp_runtime import launch, start
from refine_batch.mesh.mesh import Mesh


@wp.kernel(enable_backward=False)
def closest_kernel(
    mesh: wp.uint64,
    points: wp.array[wp.vec3],
    reach: wp.float32,
    face: wp.array[wp.int32],
    share: wp.array[wp.vec3],
):
    i = wp.tid()
    query = wp.mesh_query_point_no_sign(mesh, points[i], reach)
    if query.result:
        face[i] = query.face
        share[i] = wp.vec3(query.u, query.v, 1.0 - query.u - query.v)


class Surface:
    """A mesh to ask for nearest points, its hierarchy built once."""

    def __init__(self, mesh: Mesh):
        start()
        self._mesh = mesh
        self._low, self._high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        self._tree = wp.Mesh(
            points=wp.array(mesh.vertices, dtype=wp.vec3, device="cpu"),
            indices=wp.array(mesh.faces.ravel(), dtype=wp.int32, device="cpu"),
        )

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where on the mesh each of (N, 3) points' nearest point lies.

        Returns
        -------
        face : (N,) int64
        share : (N, 3) float64
            Barycentric coordinates there, of the face's three corners.
        """
        queries = torch.from_numpy(np.ascontiguousarray(points, np.float32))
        face, share = torch.zeros(len(queries), dtype=torch.int32), torch.zeros(len(queries), 3)
        if len(queries):
            low = np.minimum(self._low, queries.numpy().min(axis=0))
            high = np.maximum(self._high, queries.numpy().max(axis=0))
            reach = 1.01 * float(np.linalg.norm(high - low)) + 1e-6
            launch(closest_kernel, len(queries), [self._tree.id, queries, reach, face, share])
        return face.numpy().astype(np.int64), share.numpy().astype(np.float64)

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) float64: the nearest point of the mesh to each of (N, 3) points."""
        return self.located(points)[1]

    def located(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) int64 faces and (N, 3) float64: on which face and where the nearest point of the mesh lies."""
        face, share = self.closest(points)
        corners = self._mesh.vertices[self._mesh.faces[face]].astype(np.float64)
        return face, np.einsum("nk,nkc->nc", share, corners)
