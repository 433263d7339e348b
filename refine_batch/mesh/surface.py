"""The point of a surface that is nearest to a point, as a Warp kernel over Warp's bounding volume hierarchy."""

from __future__ import annotations

import numpy as np
import torch
import warp as wp

from refine_batch.devices.warp_runtime import launch, start
from refine_batch.mesh.mesh import Mesh

# Faces in a leaf of the hierarchy: searched in less time than leaves of one.
LEAF = 4


@wp.kernel(enable_backward=False)
def closest_kernel(
    mesh: wp.uint64,
    points: wp.array[wp.vec3],
    within: wp.array[wp.float32],
    middle: wp.vec3,
    radius: wp.float32,
    face: wp.array[wp.int32],
    share: wp.array[wp.vec3],
    nearest: wp.array[wp.vec3d],
):
    """`within`, where it is not empty, bounds each point's distance; the sphere bounds all of the mesh."""
    i = wp.tid()
    point = points[i]
    reach = 1.01 * (wp.length(point - middle) + radius) + 1e-6
    if within.shape[0] > 0:
        reach = wp.min(reach, within[i])
    query = wp.mesh_query_point_no_sign(mesh, point, reach)
    if query.result:
        face[i] = query.face
        shares = wp.vec3(query.u, query.v, 1.0 - query.u - query.v)
        share[i] = shares
        place = wp.vec3d()
        for k in range(3):
            place += wp.float64(shares[k]) * wp.vec3d(wp.mesh_get_point(mesh, 3 * query.face + k))
        nearest[i] = place


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

    def located(self, points: np.ndarray, within: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(N,) int32 faces and (N, 3) float64: on which face and where the nearest point of the mesh lies.

        Parameters
        ----------
        within : (N,), or None
            How far from each point the surface is at most, where that is known: less of it is searched then.
        """
        face, _, nearest = self._asked(points, within)
        return face, nearest

    def _asked(self, points: np.ndarray, within: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        queries = torch.from_numpy(np.ascontiguousarray(points, np.float32))
        count = len(queries)
        bounds = torch.empty(0)
        if within is not None:
            # By more than rounding.
            bounds = torch.from_numpy((within * 1.0001 + 2e-5 * self._radius).astype(np.float32))
        face, share = torch.zeros(count, dtype=torch.int32), torch.zeros(count, 3)
        nearest = torch.zeros(count, 3, dtype=torch.float64)
        if count:
            sphere = [self._middle, self._radius]
            launch(closest_kernel, count, [self._tree.id, queries, bounds, *sphere, face, share, nearest])
        return face.numpy(), share.numpy(), nearest.numpy()
