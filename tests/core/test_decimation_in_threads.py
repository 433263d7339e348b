"""Meshes that are decimated at the same time are decimated as each would be alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import trimesh

from refine_batch.mesh import Mesh
from refine_batch.mesh.decimation import decimated


def test_no_mesh_is_mixed_with_another():
    spheres = [trimesh.creation.icosphere(subdivisions=level) for level in (4, 5, 4, 5)]
    meshes = [Mesh(np.float32(s.vertices * (i + 1)), np.int32(s.faces)) for i, s in enumerate(spheres)]
    alone = [decimated(mesh, 500) for mesh in meshes]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for one, other in zip(alone, pool.map(lambda mesh: decimated(mesh, 500), meshes), strict=True):
                np.testing.assert_array_equal(one.vertices, other.vertices)
                np.testing.assert_array_equal(one.faces, other.faces)
