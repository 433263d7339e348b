"""Hard silhouettes, for the figures of merit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int32
from torch import Tensor

from refine_batch.cameras.camera import Camera, Cameras, project, stack_cameras
from refine_batch.mesh import Mesh
from refine_batch.mesh.edges import Edges
from refine_batch.mesh.padded import PaddedMeshes

# From so many views of a mesh on it pays to find its edges first.
FEW = 4


def hard_silhouettes(
    mesh: Mesh, cameras: Sequence[Camera], image_size: int, device: torch.device | str = "cpu"
) -> np.ndarray:
    """(N, H, H) bool: the silhouette of `mesh` from each camera.

    Triangles are filled at twice the resolution; a pixel is set where at least half of its four samples are covered.
    """
    meshes = PaddedMeshes.of([mesh], device)
    view = torch.zeros(len(cameras), dtype=torch.int32, device=device)
    return silhouettes(meshes, stack_cameras(cameras, device), view, image_size).cpu().numpy()


def silhouettes(
    meshes: PaddedMeshes, cameras: Cameras, mesh_of_view: Int32[Tensor, " n"], image_size: int
) -> Bool[Tensor, "n h h"]:
    """The same of N views of several meshes, each view from a camera of its own."""
    from refine_batch.render.warp_coverage import half_covered

    few = len(mesh_of_view) < FEW * len(meshes)
    edges = Edges.apart(meshes.faces) if few and not meshes.knows_edges else meshes.edges
    seen = meshes.vertices.expand(len(mesh_of_view), -1, -1) if len(meshes) == 1 else meshes.vertices[mesh_of_view]
    points = project(seen, cameras)
    return half_covered(points, meshes.faces, meshes.face_count, edges, mesh_of_view, image_size)
