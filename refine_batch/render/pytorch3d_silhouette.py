"""The soft silhouette through PyTorch3D's rasteriser: an optional second renderer, and an oracle for the tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# What PyTorch3D's users usually keep; the other renderers keep every triangle.
FACES_PER_PIXEL = 100


def optical_depth(points, faces, face_count, mesh_of_view, image_size, sigma, radius) -> Tensor:
    """S of every pixel; see `refine_batch.render.silhouette.SilhouetteRenderer`."""
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    meshes = mesh_of_view.tolist()
    scene = Meshes(
        verts=[points[view] for view in range(len(meshes))],
        faces=[faces[mesh, : int(face_count[mesh])].long() for mesh in meshes],
    )
    face, _, _, distance = rasterize_meshes(
        scene,
        image_size=image_size,
        # A number: what lies on the device is waited for.
        blur_radius=float(radius),
        faces_per_pixel=FACES_PER_PIXEL,
        # Points are projected already: x and y are all that the distances depend on.
        perspective_correct=False,
        # Without it a steep triangle's depth, extrapolated into its blur, falls below zero and the triangle is dropped.
        clip_barycentric_coords=True,
    )
    return torch.where(face >= 0, F.softplus(-distance / sigma), 0.0).sum(dim=-1)
