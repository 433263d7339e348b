"""Hard silhouettes, for the figures of merit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.mesh import Mesh


def hard_silhouettes(
    mesh: Mesh, cameras: Sequence[Camera], image_size: int, device: torch.device | str = "cpu"
) -> np.ndarray:
    """(N, H, H) bool: the silhouette of `mesh` from each camera.

    Triangles are filled at twice the resolution; a pixel is set where at least half of its four samples are covered.
    """
    from refine_batch.render.warp_coverage import coverage

    # Copies: a mesh read from a table may lie in memory that is not ours to write to.
    vertices = torch.tensor(mesh.vertices, device=device)
    faces = torch.tensor(mesh.faces, device=device)[None]
    count = torch.tensor([len(mesh.faces)], dtype=torch.int32, device=device)
    points = project(vertices.expand(len(cameras), -1, -1), stack_cameras(list(cameras), device))
    view = torch.zeros(len(cameras), dtype=torch.int32, device=device)
    covered = coverage(points, faces, count, view, 2 * image_size)
    samples = covered[:, ::2, ::2] + covered[:, ::2, 1::2] + covered[:, 1::2, ::2] + covered[:, 1::2, 1::2]
    return (samples >= 2).cpu().numpy()
